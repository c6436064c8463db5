/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures remote page faults beside the round trip of a 4 KB message between the same two hosts,
 * and how long the parent stands still while its memory is protected. Prints JSON.
 *
 *   bench-fault [--home=NETNS,ADDRESS] [--away=NETNS,ADDRESS] [--mem=MB]
 *
 * NETNS is a path as in /run/netns/NAME, or empty for the namespace it is started in.
 */
#define _GNU_SOURCE
#include "config.h"

#include <argp.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "tests/memtap/harness.h"

#define ROUND_TRIPS 2000u
#define SLICES 40u
#define STEP_PAGES 16u		/* farther than pages are asked for ahead: every touch is a fault */
#define ARMS 20u
#define SNAPSHOT 1u
#define SEED (1u | CONTENT_FULL)

struct options {
	struct test_place home, away;
	uint64_t pages;
};

static const struct argp_option option_table[] = {
	{ "home", 'h', "NETNS,ADDRESS", 0, "Where the parent is", 0 },
	{ "away", 'a', "NETNS,ADDRESS", 0, "Where the clone is", 0 },
	{ "mem", 'm', "MB", 0, "Memory of the VM [512]", 0 },
	{ 0 },
};

static void parse_place(char *arg, struct test_place *place, struct argp_state *state)
{
	char *comma = strchr(arg, ',');

	if (!comma)
		argp_error(state, "%s: no comma", arg);
	*comma = 0;
	place->netns = *arg ? arg : NULL;
	place->address = comma + 1;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	switch (key) {
	case 'h':
		parse_place(arg, &o->home, state);
		return 0;
	case 'a':
		parse_place(arg, &o->away, state);
		return 0;
	case 'm':
		o->pages = strtoull(arg, NULL, 10) << 8;
		if (!o->pages || o->pages > MEMTAP_MAX_RAM_BYTES / MEMTAP_PAGE_BYTES)
			argp_error(state, "--mem=%s: not a size", arg);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts. Return: {"median", "p99"} in `unit_ns`. */
static json_t *summary(uint64_t *ns, size_t count, double unit_ns)
{
	qsort(ns, count, sizeof(ns[0]), by_size);
	return json_pack("{s:f, s:f}", "median", (double)ns[count / 2] / unit_ns, "p99",
			 (double)ns[count * 99 / 100] / unit_ns);
}

static void must(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "bench-fault: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(EXIT_FAILURE);
}

/*
 * ── 4 KB there and back ──
 *
 * Where the scheduler puts the two that talk decides how long it takes: on one processor none is
 * asleep when it is needed, on two each has to be woken. So it is measured both ways.
 */

/* Which of the processors that we may use; the last if there are not so many. */
static void stay_on(unsigned index, const cpu_set_t *all)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (!index--)
			break;
	}
	sched_setaffinity(0, sizeof(one), &one);
}

static void echo(int sock)
{
	uint8_t message[MEMTAP_PAGE_BYTES];
	struct sockaddr_storage from;
	struct pollfd p = { .fd = sock, .events = POLLIN };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (poll(&p, 1, -1) == 1) {
		socklen_t len = sizeof(from);
		ssize_t got =
			recvfrom(sock, message, sizeof(message), 0, (struct sockaddr *)&from, &len);

		if (got > 0)
			sendto(sock, message, (size_t)got, 0, (struct sockaddr *)&from, len);
	}
	_exit(0);
}

static uint64_t round_trip_ns(int sock, const struct sockaddr_in6 *to)
{
	uint8_t message[MEMTAP_PAGE_BYTES] = { 0 };
	struct pollfd p = { .fd = sock, .events = POLLIN };
	uint64_t start = io_now_ns();

	sendto(sock, message, sizeof(message), 0, (const struct sockaddr *)to, sizeof(*to));
	if (poll(&p, 1, 1000) == 1 && recv(sock, message, sizeof(message), 0) < 0)
		return 0;
	return io_now_ns() - start;
}

/* Who answers, and who asks. */
struct pair {
	cpu_set_t all;
	pid_t pid;
	int near;
	struct sockaddr_in6 there;
};

static struct pair pair_create(const struct options *o, unsigned processor)
{
	struct sockaddr_in6 here;
	struct pair p;
	_cleanup_fd_ int far = place_socket(&o->home, AF_INET6, &p.there);

	p.near = place_socket(&o->away, AF_INET6, &here);
	must(sched_getaffinity(0, sizeof(p.all), &p.all) ? errno : 0, "processors");
	p.pid = fork();
	if (!p.pid) {
		stay_on(processor, &p.all);
		echo(far);
	}
	return p;
}

/* Adds `count` times to `ns`. */
static void pair_measure(const struct pair *p, uint64_t *ns, unsigned count)
{
	stay_on(0, &p->all);
	for (unsigned i = 0; i < count; i++)
		ns[i] = round_trip_ns(p->near, &p->there);
	sched_setaffinity(0, sizeof(p->all), &p->all);
}

static void pair_destroy(struct pair *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	cleanup_close(&p->near);
}

/* ── faults ── */

struct stage {
	struct test_host home, away;
	struct test_vm parent, clone;
	struct test_file store, cache;
};

static struct stage stage_create(const struct options *o)
{
	struct stage s = { .home = host_start_at(&o->home, o->pages, 0, NULL),
			   .away = host_start_at(&o->away, o->pages, 0, NULL),
			   .parent = vm_parent(o->pages),
			   .store = test_file_create(0, o->pages),
			   .cache = test_file_create(0, o->pages) };

	s.clone = vm_clone(&s.cache);
	vm_do(&s.parent, VM_FILL, SEED, 2);
	must(vm_give_parent(&s.parent, &s.home, 0), "parent");
	must(host_file(&s.home, &s.store, 0), "store");
	must(host_file(&s.away, &s.cache, 0), "cache");
	must(vm_give_clone(&s.clone, &s.away, 0, 0, 0), "clone");
	return s;
}

static void stage_destroy(struct stage *s)
{
	vm_end(&s->clone);
	vm_end(&s->parent);
	host_stop(&s->away);
	host_stop(&s->home);
	test_file_destroy(&s->store);
	test_file_destroy(&s->cache);
}

enum { ONE_PROCESSOR, TWO_PROCESSORS, TRIPS };

/* In turns, so that all have the same machine, whatever else it does. */
static void measure_faults(struct stage *s, const struct pair pairs[TRIPS], uint64_t end,
			   json_t *trips[TRIPS], json_t **faults)
{
	uint64_t slice = end / SLICES / STEP_PAGES * STEP_PAGES, trip_ns[TRIPS][ROUND_TRIPS];
	size_t trip_count = 0, fault_count = 0;

	for (uint64_t first = 0; trip_count < ROUND_TRIPS; first += slice) {
		struct vm_order order = { .op = VM_TIME,
					  .threads = 1,
					  .first = first,
					  .pages = slice,
					  .step = STEP_PAGES };

		for (unsigned i = 0; i < TRIPS; i++)
			pair_measure(&pairs[i], &trip_ns[i][trip_count], ROUND_TRIPS / SLICES);
		trip_count += ROUND_TRIPS / SLICES;
		vm_order(&s->clone, &order);
		vm_wait(&s->clone);
		for (uint64_t gfn = first; gfn < first + slice; gfn += STEP_PAGES)
			vm_times[fault_count++] = vm_times[gfn];
	}
	for (unsigned i = 0; i < TRIPS; i++)
		trips[i] = summary(trip_ns[i], trip_count, 1e3);
	*faults = summary(vm_times, fault_count, 1e3);
}

/* Return: MB/s that one thread gets that reads everything from `first` on. */
static double measure_stream(struct stage *s, uint64_t first)
{
	struct vm_order order = { .op = VM_TOUCH, .threads = 1, .first = first,
				  .pages = s->clone.pages - first, .step = 1 };
	uint64_t start = io_now_ns();

	vm_order(&s->clone, &order);
	vm_wait(&s->clone);
	return (double)order.pages * MEMTAP_PAGE_BYTES / 1e6 /
	       ((double)(io_now_ns() - start) / 1e9);
}

/* ── standing still ── */

/*
 * Snapshots in a row, each of memory without protection: what was protected in the background while
 * the parent ran (`ahead`), or not; `dead`: the bitmap that comes with it, or -1. Return: ms.
 */
static json_t *measure_arms(struct stage *s, bool ahead, int dead)
{
	uint64_t ns[ARMS];

	for (uint32_t i = 0; i < ARMS; i++) {
		struct test_file f = test_file_create(10, s->home.pages);
		struct memtap_request file = { .op = MEMTAP_FILE, .file = 10 };
		struct memtap_request arm = arm_request(10, 10, 0);
		int fds[] = { f.page_fd, f.map_fd };
		struct memtap_stats stats;

		must(host_send(&s->home, &file, fds, 2), "file");
		if (ahead)
			vm_wait_protected(&s->parent, true);
		must(host_send(&s->home, &arm, &dead, dead >= 0), "arm");
		must(host_answer(&s->home, &stats), "file");
		must(host_answer(&s->home, &stats), "arm");
		ns[i] = stats.head.elapsed_ns;
		must(host_file_gone(&s->home, 10), "file gone");
		vm_wait_protected(&s->parent, false);
		test_file_destroy(&f);
	}
	return summary(ns, ARMS, 1e6);
}

/* Return: what writing a byte costs a VM, in us per page, `step` pages apart. */
static double measure_writes(struct test_vm *vm, uint64_t step)
{
	struct vm_order order = { .op = VM_POKE, .threads = 1, .pages = vm->pages, .step = step };
	uint64_t start = io_now_ns();

	vm_order(vm, &order);
	vm_wait(vm);
	return (double)(io_now_ns() - start) / 1e3 / (double)(vm->pages / step);
}

/* The parent: in a row, in no row, into dead pages, and without a snapshot. */
static json_t *measure_all_writes(struct stage *s, int dead)
{
	static const struct {
		uint64_t step;
		bool armed, dead;
	} ways[] = { { 1, true, false },
		     { 2, true, false },
		     { 1, true, true },
		     { 1, false, false } };
	double us[ARRAY_SIZE(ways)];

	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		struct test_file f = test_file_create(10, s->home.pages);
		struct memtap_request arm = arm_request(10, 10, 0);

		if (ways[i].armed) {
			must(host_file(&s->home, &f, 0), "file");
			must(host_say(&s->home, &arm, &dead, ways[i].dead, NULL), "arm");
		}
		us[i] = measure_writes(&s->parent, ways[i].step);
		if (ways[i].armed)
			must(host_file_gone(&s->home, 10), "file gone");
		vm_wait_protected(&s->parent, false);
		test_file_destroy(&f);
	}
	return json_pack("{s:f, s:f, s:f, s:f}", "in_a_row", us[0], "scattered", us[1], "dead",
			 us[2], "unprotected", us[3]);
}

/* A clone that writes memory nobody used: first by memtap's leave, then by the kernel's alone. */
static json_t *measure_clone_fill(struct stage *s, int dead)
{
	struct test_file f = test_file_create(10, s->home.pages);
	struct memtap_request arm = arm_request(10, 10, 0);
	struct test_vm clone = vm_clone(&f), booted = vm_parent(s->home.pages);
	double us, booted_us;

	must(host_file(&s->home, &f, 0), "file");
	must(vm_give_clone(&clone, &s->home, 10, 10, 0), "clone");
	must(host_say(&s->home, &arm, &dead, 1, NULL), "arm");
	us = measure_writes(&clone, 1);
	booted_us = measure_writes(&booted, 1);
	vm_end(&clone);
	vm_end(&booted);
	must(host_clone_gone(&s->home, 10), "clone gone");
	must(host_file_gone(&s->home, 10), "file gone");
	test_file_destroy(&f);
	return json_pack("{s:f, s:f}", "dead", us, "booted", booted_us);
}

/* ── waking up ── */

#define WAKE_PAGES 1024u
#define LOAD_US 50000	/* as long as a descriptor takes to load, or less */

/* Return: ms that a clone's first reads take it, which loads for so long before. */
static double measure_wake(struct stage *s, bool here, useconds_t load_us)
{
	struct test_file f = test_file_create(10, s->home.pages), g = test_file_create(10, f.pages);
	struct test_host *host = here ? &s->home : &s->away;
	struct test_vm clone = vm_clone(here ? &f : &g);
	struct vm_order order = { .op = VM_TOUCH, .threads = 1, .pages = WAKE_PAGES * STEP_PAGES,
				  .step = STEP_PAGES };
	uint64_t start;

	must(host_file(&s->home, &f, 0), "file");
	must(host_file(&s->away, &g, 0), "file");
	must(vm_give_clone(&clone, host, 10, 10, 0), "clone");
	vm_wait_protected(&s->parent, true);
	must(host_arm(&s->home, 10, 10, 0), "arm");
	if (!here)
		must(host_begin(&s->away, 10, 10, &s->home, 0), "begin");
	usleep(load_us);
	start = io_now_ns();
	vm_order(&clone, &order);
	vm_wait(&clone);
	start = io_now_ns() - start;
	vm_end(&clone);
	must(host_clone_gone(host, 10), "clone gone");
	host_file_gone(&s->away, 10);
	host_file_gone(&s->home, 10);
	vm_wait_protected(&s->parent, false);
	test_file_destroy(&f);
	test_file_destroy(&g);
	return (double)start / 1e6;
}

/* The first clone, and those that know what it needed: at once, and loading meanwhile. */
static json_t *measure_wakes(struct stage *s)
{
	double first = measure_wake(s, false, 0), at_once = measure_wake(s, false, 0);
	double away = measure_wake(s, false, LOAD_US), here = measure_wake(s, true, LOAD_US);

	return json_pack("{s:f, s:f, s:f, s:f}", "first", first, "at_once", at_once, "away", away,
			 "here", here);
}

static const struct argp argp = { option_table, parse_option, NULL,
				  "Measures remote page faults and how long a parent stands still.",
				  NULL, NULL, NULL };

int main(int argc, char **argv)
{
	struct options o = { { NULL, "127.0.0.1" }, { NULL, "127.0.0.1" }, 512 << 8 };
	json_t *trips[TRIPS], *faults, *arms, *arms_ahead, *arms_dead, *writes, *fill, *wakes;
	struct pair pairs[TRIPS];
	struct stage s;
	double stream;
	int dead;

	argp_parse(&argp, argc, argv, 0, NULL, &o);
	need_userfaultfd();
	vm_times = mmap(NULL, o.pages * sizeof(vm_times[0]), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (vm_times == MAP_FAILED)
		must(errno, "memory");
	s = stage_create(&o);
	must(host_arm(&s.home, 0, SNAPSHOT, 0), "arm");
	must(host_begin(&s.away, 0, SNAPSHOT, &s.home, 0), "begin");
	for (unsigned i = 0; i < TRIPS; i++)
		pairs[i] = pair_create(&o, i);
	measure_faults(&s, pairs, o.pages / 2, trips, &faults);
	for (unsigned i = 0; i < TRIPS; i++)
		pair_destroy(&pairs[i]);
	stream = measure_stream(&s, o.pages / 2);
	host_file_gone(&s.home, 0);
	vm_wait_protected(&s.parent, false);
	dead = test_dead_create(o.pages);
	test_dead_set(dead, 0, o.pages);
	arms = measure_arms(&s, false, -1);
	arms_ahead = measure_arms(&s, true, -1);
	arms_dead = measure_arms(&s, true, dead);
	writes = measure_all_writes(&s, dead);
	fill = measure_clone_fill(&s, dead);
	wakes = measure_wakes(&s);
	json_dumpf(json_pack("{s:I, s:o, s:o, s:o, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o}",
			     "mem_mb", (json_int_t)(o.pages >> 8), "round_trip_us",
			     trips[ONE_PROCESSOR], "round_trip_apart_us", trips[TWO_PROCESSORS],
			     "fault_us", faults, "ratio",
			     json_real_value(json_object_get(faults, "median")) /
				     json_real_value(json_object_get(trips[ONE_PROCESSOR],
								     "median")),
			     "stream_mb_per_s", stream, "arm_ms", arms, "arm_prepared_ms",
			     arms_ahead, "arm_prepared_dead_ms", arms_dead, "first_write_us",
			     writes, "clone_write_us", fill, "wake_up_ms", wakes),
		   stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
	putchar('\n');
	stage_destroy(&s);
	cleanup_close(&dead);
	return 0;
}
