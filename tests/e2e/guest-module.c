/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: the kernel module is loaded and unloaded at the worst times, with signals coming in
 * all the while.
 *
 *   guest-module SECONDS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <sf.h>

#define LOAD "insmod /usr/lib/modules/snowflock.ko"
#define UNLOAD "rmmod snowflock"

static int wrong;

static void expect(int right, const char *what)
{
	if (right)
		return;
	fprintf(stderr, "wrong: %s; sf_error: %s\n", what, sf_error());
	wrong++;
}

static void on_alarm(int number)
{
	(void)number;
}

/* A signal each millisecond, in this process and its clones. */
static void storm(void)
{
	struct sigaction action = { .sa_handler = on_alarm };
	struct itimerval often = { { 0, 1000 }, { 0, 1000 } };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

/* Return: 1 if it cloned and the clone ended well, 0 if it was refused with EAGAIN, -1. */
static int clone_once(void)
{
	struct sf_status status;
	int id = sf_clone(1);

	if (id > 0)
		sf_exit(7);
	if (id < 0)
		return errno == EAGAIN ? 0 : -1;
	if (sf_join() || sf_status(1, &status))
		return -1;
	return status.state == SF_STATE_EXITED && status.status == 7 ? 1 : -1;
}

static void a_ticket_outlives_the_module(void)
{
	int ticket = sf_request_ticket(1, NULL);

	expect(ticket > 0, "a ticket");
	expect(!system(UNLOAD), UNLOAD);
	expect(sf_clone_ticket(ticket) == -1 && errno == EAGAIN && strstr(sf_error(), "module"),
	       "a ticket from before the module went is refused with EAGAIN");
	expect(!sf_ticket_free(ticket), "the ticket is given back");
	expect(clone_once() == 1, "cloning without the module");
	ticket = sf_request_ticket(1, NULL);
	expect(!system(LOAD), LOAD);
	expect(sf_clone_ticket(ticket) == -1 && errno == EAGAIN,
	       "a ticket from before the module came is refused with EAGAIN");
	expect(!sf_ticket_free(ticket), "the ticket is given back");
	expect(clone_once() == 1, "cloning with the module again");
}

static void at_any_time(int seconds)
{
	time_t end = time(NULL) + seconds;
	int cloned = 0, refused = 0, status;
	pid_t pid = fork();

	if (!pid) {
		for (;;) {
			while (system(UNLOAD " 2>/dev/null"))
				usleep(1000);	/* it is in use */
			usleep(200000);
			while (system(LOAD " 2>/dev/null"))
				usleep(1000);
			sleep(2);
		}
	}
	while (time(NULL) < end) {
		int made = clone_once();

		expect(made >= 0, "a clone is made or refused");
		cloned += made > 0;
		refused += !made;
	}
	kill(pid, SIGTERM);
	waitpid(pid, &status, 0);
	if (system("grep -q ^snowflock /proc/modules"))
		expect(!system(LOAD), LOAD);
	printf("%d cloned, %d refused\n", cloned, refused);
	expect(cloned > 0, "some are made");
	expect(clone_once() == 1, "at the end all is well");
}

int main(int argc, char **argv)
{
	storm();
	a_ticket_outlives_the_module();
	at_any_time(argc > 1 ? atoi(argv[1]) : 5);
	printf("%d wrong\n", wrong);
	return wrong != 0;
}
