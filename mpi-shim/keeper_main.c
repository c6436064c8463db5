/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf-mpikeeper: the keeper's program; sf-mpirun and libsfmpi start it when they need one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "config.h"
#include "keeper.h"

static const char usage[] =
	"Usage: sf-mpikeeper [--ready-fd=FD]\n"
	"\n"
	"Has the clones in which MPI programs of this user run. sf-mpirun and libsfmpi start it; it ends\n"
	"by itself when nobody needs it any more.\n"
	"\n"
	"      --ready-fd=FD  go on in the background, and write to FD, as 32 bits, 0 when it listens or\n"
	"                     else the number of the error\n"
	"      --help         this text\n"
	"      --version      the version\n"
	"\n"
	"SF_LOG=debug says what it does, on standard error.\n";

struct options {
	int ready_fd; /* -1: none */
};

static int parse_fd(const char *text)
{
	char *end;
	long fd;

	errno = 0;
	fd = strtol(text, &end, 10);
	return errno || end == text || *end || fd < 3 || fd > 1 << 20 ? -1 : (int)fd;
}

/* Return: -1 to go on; else the status to exit with. */
static int parse(int argc, char **argv, struct options *options)
{
	static const struct option table[] = {
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int option;

	options->ready_fd = -1;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		switch (option) {
		case 'r':
			options->ready_fd = parse_fd(optarg);
			if (options->ready_fd >= 0)
				break;
			fprintf(stderr, "sf-mpikeeper: --ready-fd=%s: no such descriptor\n", optarg);
			return 2;
		case 'h':
			fputs(usage, stdout);
			return 0;
		case 'v':
			puts("sf-mpikeeper (snowflock) " PACKAGE_VERSION);
			return 0;
		default:
			return 2;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "sf-mpikeeper: it takes no arguments: %s\n", argv[optind]);
	return 2;
}

/* Lets go of all that came from who started it, but standard error and the ready pipe. */
static void be_on_its_own(int ready_fd)
{
	struct rlimit files;
	sigset_t none;

	if (ready_fd > 3)
		close_range(3, (unsigned)ready_fd - 1, 0);
	close_range((unsigned)(ready_fd < 0 ? 3 : ready_fd + 1), ~0u, 0);
	if (ready_fd >= 0)
		io_set_inherit(ready_fd, false);
	for (int fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
			log_warn("keeper: /dev/null: %s", strerror(errno));
	}
	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (chdir("/"))
		log_warn("keeper: /: %s", strerror(errno));
}

static void say_ready(int fd, int error)
{
	int32_t number = error;

	if (fd < 0)
		return;
	if (io_write_full(fd, &number, sizeof(number)))
		log_debug("keeper: who started it has gone");
	close(fd);
}

/* Return: 0; -ENODEV if this VM cannot be cloned; -errno. */
static int look_around(void)
{
	int id = sf_id();

	if (id < 0)
		return errno == ENOSYS ? -ENODEV : -errno;
	return id ? -ENODEV : 0; /* clones do not clone */
}

int main(int argc, char **argv)
{
	static struct keeper keeper;
	struct options options;
	int rc = parse(argc, argv, &options);

	if (rc >= 0)
		return rc;
	log_init("sf-mpikeeper", LOG_LVL_WARN);
	be_on_its_own(options.ready_fd);
	if (options.ready_fd >= 0) {
		pid_t pid = fork();

		if (pid < 0)
			say_ready(options.ready_fd, errno);
		if (pid)
			return pid < 0;
		setsid();
	}
	rc = keeper_init(&keeper, &keeper_libsf);
	if (!rc)
		rc = look_around();
	say_ready(options.ready_fd, -rc);
	if (rc && options.ready_fd < 0)
		log_err("keeper: cannot begin: %s", strerror(-rc));
	if (!rc)
		rc = keeper_run(&keeper);
	keeper_fini(&keeper);
	return rc != 0;
}
