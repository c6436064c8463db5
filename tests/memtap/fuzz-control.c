/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fuzzing of sfd's messages: sequences of them, with descriptors that fit and that do not.
 * Addresses and sizes are often right, so that the messages get far.
 */
#include "config.h"

#include <arpa/inet.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/memtap/control.h"
#include "proto/mcdist.h"
#include "tests/memtap/fuzz.h"
#include "tests/memtap/harness.h"

#define PAGES 64u
#define RAM_BYTES (PAGES * (uint64_t)MEMTAP_PAGE_BYTES)
#define WINDOW_PAGES 2u
#define NODES_MAX 6u
#define GROUP "::ffff:239.77.0.2"
#define GROUP_PORT 7703

/* What a message may carry; made anew for each input. */
enum thing {
	THING_PAGES,
	THING_MAP,
	THING_DEAD,
	THING_WINDOW,
	THING_PLACES,
	THING_UDP,
	THING_GROUP,	/* the socket for groups */
	THING_UFFD,
	THING_NULL,
	THINGS
};

/* Of the memfds among them. */
static const uint64_t thing_bytes[] = {
	[THING_PAGES] = RAM_BYTES,
	[THING_MAP] = PAGES,
	[THING_DEAD] = PAGES / 8,
	[THING_WINDOW] = (WINDOW_PAGES + 1) * MEMTAP_PAGE_BYTES,
	[THING_PLACES] = 0,	/* as many as the message says */
};

static int make_thing(enum thing thing)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = -1;

	switch (thing) {
	case THING_PAGES:
	case THING_MAP:
	case THING_DEAD:
	case THING_WINDOW:
	case THING_PLACES:
		fd = memfd_create("fuzz", MFD_CLOEXEC);
		if (ftruncate(fd, (off_t)thing_bytes[thing]) < 0)
			abort();
		break;
	case THING_UDP:
	case THING_GROUP:
		fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (thing == THING_GROUP)
			at = (struct sockaddr_in){ .sin_family = AF_INET,
						   .sin_port = htons(GROUP_PORT) };
		if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
		    bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0)
			abort();
		break;
	case THING_UFFD:
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
		break;
	default:
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	}
	if (fd < 0)
		abort();
	return fd;
}

/* An address that is right, none, or another. */
static struct memtap_source make_address(struct fuzz_input *in, const char *text, uint16_t port)
{
	struct memtap_source source = { .addr = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };
	uint8_t how = fuzz_byte(in);

	inet_pton(AF_INET6, text, &source.addr.sin6_addr);
	if (how % 8 == 1)
		source.addr.sin6_port = 0;
	if (how % 8 == 2)
		source.addr.sin6_family = how;
	if (how % 8 == 3)
		source.addr.sin6_addr.s6_addr[how / 8 % 16] = fuzz_byte(in);
	return source;
}

/* Where the nodes are; now and then too few or too many of them. */
static void write_places(struct fuzz_input *in, int fd, uint32_t nodes)
{
	uint8_t how = fuzz_byte(in);
	size_t count = (how % 16 ? nodes : how / 16u) % (NODES_MAX + 1);

	for (size_t i = 0; i < count; i++) {
		struct memtap_source at = make_address(in, "::ffff:127.0.0.1", 9);

		if (write(fd, &at, sizeof(at)) != sizeof(at))
			abort();
	}
	if (how == 16 && ftruncate(fd, (off_t)(count * sizeof(struct memtap_source) + 1)) < 0)
		abort();
}

static void fill_thing(struct fuzz_input *in, enum thing thing, int fd,
		       const struct memtap_request *r)
{
	if (thing == THING_DEAD && pwrite(fd, &(uint64_t){ fuzz_number(in) }, 8, 0) != 8)
		abort();
	if (thing == THING_PLACES)
		write_places(in, fd, r->nodes);
}

/* Some may be left out. */
static bool is_left_out(enum thing thing, const struct memtap_request *r, uint8_t how)
{
	switch (thing) {
	case THING_WINDOW:
		return !r->window_pages;
	case THING_PLACES:
		return !r->nodes;
	case THING_DEAD:
	case THING_GROUP:
		return how & 128;
	default:
		return false;
	}
}

/* The descriptors that this message wants, or others. */
static unsigned make_fds(struct fuzz_input *in, const struct memtap_request *r,
			 int fds[MEM_CONTROL_FDS])
{
	static const enum thing right[][THINGS] = {
		[MEMTAP_INIT] = { THING_UDP, THING_GROUP, THINGS },
		[MEMTAP_PARENT] = { THING_UFFD, THING_PAGES, THINGS },
		[MEMTAP_FILE] = { THING_PAGES, THING_MAP, THINGS },
		[MEMTAP_ARM ... MEMTAP_BEGIN] = { THING_PLACES, THING_DEAD, THINGS },
		[MEMTAP_BEGIN_LOCAL] = { THING_DEAD, THINGS },
		[MEMTAP_CLONE] = { THING_UFFD, THING_WINDOW, THINGS },
		[MEMTAP_CLONE_GONE ... MEMTAP_STATS] = { THINGS },
		/* a map of blocks is as long as one of dead pages */
		[MEMTAP_LAYERS] = { THING_PLACES, THING_PAGES, THING_PAGES, THING_DEAD, THINGS },
	};
	uint8_t how = fuzz_byte(in);
	unsigned count = 0;

	if (how % 16 == 1 || r->op < MEMTAP_INIT || r->op > MEMTAP_LAYERS) {
		for (; count < how / 16; count++)
			fds[count] = make_thing(fuzz_byte(in) % THINGS);
		return count;
	}
	for (const enum thing *thing = right[r->op]; *thing != THINGS; thing++) {
		if (is_left_out(*thing, r, how))
			continue;
		fds[count] = make_thing(*thing);
		fill_thing(in, *thing, fds[count], r);
		count++;
	}
	return count;
}

/* How pages travel. */
static void make_way(struct fuzz_input *in, struct memtap_request *r)
{
	uint8_t how = fuzz_byte(in);

	r->mode = how % 4 % MC_MODES;
	r->nodes = fuzz_byte(in) % (NODES_MAX + 1);
	r->node = r->nodes ? fuzz_byte(in) % r->nodes : 0;
	r->push_pages_per_s = how & 16 ? 100000 : 0;
	r->compress = how >> 5 & 1;
	r->group = make_address(in, GROUP, GROUP_PORT);
	switch (how % 64 ? 0 : fuzz_byte(in) % 8) {
	case 1:
		r->mode = (uint32_t)fuzz_number(in);
		break;
	case 2:
		r->node = (uint32_t)fuzz_number(in);
		break;
	case 3:
		r->nodes = (uint32_t)fuzz_number(in);
		break;
	case 4:
		r->push_pages_per_s = (uint32_t)fuzz_number(in);
		break;
	case 5:
		r->compress = (uint32_t)fuzz_number(in);
		break;
	}
}

static struct memtap_request make_request(struct fuzz_input *in, uint64_t base)
{
	struct memtap_request r = { .op = fuzz_byte(in) % (MEMTAP_LAYERS + 2), .base = base,
				    .bytes = RAM_BYTES };

	r.file = fuzz_byte(in) % 8;
	r.other = fuzz_byte(in) % 8;
	r.vm = fuzz_byte(in) % 8;
	r.snapshot = fuzz_byte(in) % 4;
	r.flags = fuzz_byte(in) % 4 == 1;
	if (fuzz_byte(in) % 2)
		r.source = make_address(in, "::ffff:127.0.0.1", 9);
	if (r.op == MEMTAP_LAYERS)
		r.vm = r.arg = 1;
	if (r.op == MEMTAP_ARM || r.op == MEMTAP_BEGIN || r.op == MEMTAP_LAYERS ||
	    fuzz_byte(in) % 64 == 1)
		make_way(in, &r);
	if (r.op == MEMTAP_CLONE && fuzz_byte(in) % 2) {
		r.window_pages = WINDOW_PAGES;
		r.window = fuzz_byte(in) % PAGES;
	}
	switch (fuzz_byte(in) % 16) {
	case 0:
		r.base = fuzz_number(in);
		break;
	case 1:
		r.bytes = fuzz_number(in);
		break;
	case 2:
		r.flags = (uint32_t)fuzz_number(in);
		r.window_pages = (uint32_t)fuzz_number(in);
		r.window = fuzz_number(in);
		break;
	case 3:
		r.file = r.other = r.vm = (uint32_t)fuzz_number(in);
		break;
	}
	return r;
}

static void one_message(struct memtap *m, struct fuzz_input *in, uint64_t base)
{
	struct memtap_request r = make_request(in, base);
	int fds[MEM_CONTROL_FDS] = { 0 };
	unsigned nfds = make_fds(in, &r, fds);
	size_t len = fuzz_byte(in) % 32 == 1 ? fuzz_byte(in) % sizeof(r) : sizeof(r);
	struct memtap_stats answer;

	len = mem_control_handle(m, &r, len, fds, nfds, &answer);
	if (len != sizeof(answer) && len != sizeof(answer.head))
		abort();
	if (answer.head.error < 0)
		abort();
	for (unsigned i = 0; i < nfds; i++) {
		if (fds[i] >= 0)
			abort();	/* neither taken nor closed */
	}
	event_base_loop(m->base, EVLOOP_NONBLOCK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	int ram = make_thing(THING_PAGES);
	void *at = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ram, 0);
	struct memtap *m = memtap_create();
	struct memtap_request init = { .op = MEMTAP_INIT, .bytes = RAM_BYTES, .arg = 1000 };
	int socks[] = { make_thing(THING_UDP), make_thing(THING_GROUP) };
	struct memtap_stats answer;

	need_userfaultfd();
	if (at == MAP_FAILED || !m || sodium_init() < 0)
		abort();
	if (fuzz_byte(&in) % 8)
		mem_control_handle(m, &init, sizeof(init), socks, 1 + fuzz_byte(&in) % 2, &answer);
	while (in.left)
		one_message(m, &in, (uintptr_t)at);
	memtap_destroy(m);
	cleanup_close(&socks[0]);
	cleanup_close(&socks[1]);
	munmap(at, RAM_BYTES);
	close(ram);
	return 0;
}
