/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * sf-hush: stops what else runs in the VM, and lets it go on, for a program that clones the VM itself
 * and whose threads cannot be tracers. Standard input is a socket of that program's, which is not
 * stopped: a byte 's' stops, 'g' lets go; each is answered by a byte, 0 or an errno. In a clone nobody
 * says 'g', and all stays as it is. It ends with its socket, and then everything goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "libsf/silence.h"

static struct silence silence;
static bool silent;

/* Return: what is answered. */
static int obey(char word)
{
	int rc = 0;

	switch (word) {
	case 's':
		rc = silence_begin(&silence, getppid(), getppid());
		silent = !rc;
		if (rc)
			log_warn("hush: %s", silence.why);
		return -rc;
	case 'g':
		log_debug("hush: %llu us", (unsigned long long)silence_end(&silence));
		silent = false;
		return 0;
	default:
		return EINVAL;
	}
}

/* Return: false at the end. */
static bool serve_word(void)
{
	unsigned char answer;
	char word;

	if (read(STDIN_FILENO, &word, 1) != 1)
		return false;
	answer = (unsigned char)obey(word);
	return !io_write_full(STDIN_FILENO, &answer, 1);
}

int main(int argc, char **argv)
{
	struct pollfd polled[2] = { { .fd = STDIN_FILENO, .events = POLLIN } };
	struct signalfd_siginfo info;
	sigset_t children;

	if (argc > 1) {
		fprintf(stderr, "%s: run by libsfomp, with a socket as standard input\n", argv[0]);
		return 64;
	}
	log_init("sf-hush", LOG_LVL_WARN);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	sigprocmask(SIG_BLOCK, &children, NULL);
	polled[1].fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	polled[1].events = POLLIN;
	if (polled[1].fd < 0) {
		log_err("hush: signalfd: %s", strerror(errno));
		return 1;
	}
	for (;;) {
		if (poll(polled, 2, -1) < 0 && errno != EINTR)
			return 1;
		while (read(polled[1].fd, &info, sizeof(info)) > 0)
			;
		if (!silent)
			silence_late(&silence);
		if (polled[0].revents && !serve_word())
			return 0;
	}
}
