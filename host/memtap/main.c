/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sf-memtap: started by sfd, one for each family of clones on a host; ends when sfd lets go. */
#include "config.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "common/io.h"
#include "common/log.h"
#include "host/memtap/control.h"
#include "host/memtap/memtap.h"

const char *argp_program_version = PACKAGE_STRING;

struct arguments {
	int control;		/* -1: none */
	const char *family;
};

/* Return: a descriptor's number, or -1 if it is none. */
static int parse_fd(const char *text)
{
	char *end;
	long fd = strtol(text, &end, 10);

	return !*text || *end || fd < 3 || fd > 1 << 20 ? -1 : (int)fd;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct arguments *args = state->input;

	switch (key) {
	case ARGP_KEY_ARG:
		if (state->arg_num == 0)
			args->control = parse_fd(arg);
		else if (state->arg_num == 1)
			args->family = arg;
		else
			argp_usage(state);
		return 0;
	case ARGP_KEY_END:
		if (args->control < 0)
			argp_usage(state);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp argp = {
	.parser = parse_option,
	.args_doc = "FD [FAMILY]",
	.doc = "Gives a family of clones its memory. Started by sfd; FD is the inherited "
	       "descriptor of "
	       "a SOCK_SEQPACKET socket to it, FAMILY is a name for the log.",
};

/* Each clone costs a descriptor, each page file two. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static bool is_control_socket(int fd)
{
	int type;
	socklen_t len = sizeof(type);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_SEQPACKET;
}

static int run(int fd)
{
	struct memtap *m = memtap_create();
	struct mem_control *control;

	if (!m) {
		log_err("cannot start: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	control = mem_control_create(m, fd);
	if (!control) {
		log_err("descriptor %d: %s", fd, strerror(errno));
		memtap_destroy(m);
		return EXIT_FAILURE;
	}
	memtap_run(m);
	mem_control_destroy(control);
	memtap_destroy(m);
	return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct arguments args = { .control = -1 };
	static char name[64] = "sf-memtap";	/* the log keeps it */

	/* sfd starts a descriptor, after which the kernel would name this process */
	prctl(PR_SET_NAME, "sf-memtap");
	argp_parse(&argp, argc, argv, 0, NULL, &args);
	if (args.family)
		snprintf(name, sizeof(name), "sf-memtap %s", args.family);
	log_init(name, LOG_LVL_WARN);
	if (!is_control_socket(args.control)) {
		log_err("descriptor %d is not a SOCK_SEQPACKET socket", args.control);
		return EXIT_FAILURE;
	}
	if (sodium_init() < 0) {
		log_err("libsodium does not start");
		return EXIT_FAILURE;
	}
	io_set_inherit(args.control, false);
	signal(SIGPIPE, SIG_IGN);
	raise_file_limit();
	return run(args.control);
}
