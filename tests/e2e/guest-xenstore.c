/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the guest: processes use XenStore all the time, with watches and transactions, while the VM is
 * cloned again and again. In the clones the same processes go on as if nothing had happened.
 *
 *   guest-xenstore PROCESSES CLONES
 *
 * Each process counts a node of its own up in transactions, watches it, and hears of each change.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include <sf.h>

struct shared {
	volatile unsigned done[64];	/* rounds of each process */
	volatile int broken;		/* a process that found something wrong, + 1 */
	volatile int stop;
};

static struct shared *shared;

/* Counts the node up in a transaction that is tried until it goes through. Return: 0, or -1. */
static int count_up(struct xs_handle *xs, const char *path, unsigned to)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", to);
	for (;;) {
		xs_transaction_t t = xs_transaction_start(xs);
		unsigned len;
		char *old;

		if (!t)
			return -1;
		old = xs_read(xs, t, path, &len);
		if (to > 1 && (!old || strtoul(old, NULL, 10) != to - 1)) {
			fprintf(stderr, "%s holds %s before %u\n", path, old ? old : "nothing", to);
			return -1;
		}
		free(old);
		if (!xs_write(xs, t, path, text, (unsigned)strlen(text)))
			return -1;
		if (xs_transaction_end(xs, t, false))
			return 0;
	}
}

/* Return: 0 when an event for the path came within 20 s. */
static int hear(struct xs_handle *xs, const char *path)
{
	struct pollfd p = { .fd = xs_fileno(xs), .events = POLLIN };
	char **event;
	int rc;

	if (poll(&p, 1, 20000) != 1)
		return -1;
	event = xs_check_watch(xs);
	rc = event && !strcmp(event[XS_WATCH_PATH], path) && !strcmp(event[XS_WATCH_TOKEN], "mine") ? 0 : -1;
	free(event);
	return rc;
}

static void worker(unsigned number)
{
	struct xs_handle *xs = xs_open(0);
	char path[32];

	snprintf(path, sizeof(path), "test/%u", number);
	if (!xs || !xs_watch(xs, path, "mine") || hear(xs, path))
		goto broken;
	for (unsigned i = 1; !shared->stop; i++) {
		if (count_up(xs, path, i) || hear(xs, path))
			goto broken;
		shared->done[number] = i;
	}
	xs_close(xs);
	_exit(0);
broken:
	perror(path);
	shared->broken = (int)number + 1;
	_exit(1);
}

/* Waits until every process has done some more rounds here. Return: 0, or the process that did not. */
static int all_go_on(unsigned count, unsigned more)
{
	unsigned from[64];

	for (unsigned i = 0; i < count; i++)
		from[i] = shared->done[i];
	for (unsigned i = 0; i < count; i++) {
		for (unsigned tries = 0; shared->done[i] < from[i] + more && !shared->broken; tries++) {
			if (tries > 6000)
				return (int)i + 1;
			usleep(10000);
		}
	}
	return shared->broken;
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 6, clones = argc > 2 ? (unsigned)atoi(argv[2]) : 2;
	struct sf_status status;
	int id = 0, bad = 0;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned i = 0; i < count; i++) {
		if (!fork())
			worker(i);
	}
	for (unsigned round = 0; round < 3 && !bad; round++) {
		bad = all_go_on(count, 5);
		id = sf_clone(clones);
		if (id < 0) {
			fprintf(stderr, "sf_clone: %s\n", sf_error());
			return 1;
		}
		if (id > 0)
			sf_exit(all_go_on(count, 5));
		bad = bad ? bad : all_go_on(count, 5);
		sf_join();
		for (unsigned i = 1; i <= clones; i++) {
			if (sf_status(i, &status) || status.state != SF_STATE_EXITED || status.status) {
				fprintf(stderr, "clone %u: state %d, status %d %s\n", i, (int)status.state,
					status.status, status.reason);
				bad = 99;
			}
		}
	}
	shared->stop = 1;
	while (wait(NULL) > 0)
		;
	if (bad || shared->broken)
		return 1;
	puts("xenstore went on");
	return 0;
}
