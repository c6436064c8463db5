/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The real nbdkit: a disk whose layers are frozen and merged while it is read and written. */
#include "config.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vdisk/layer.h"
#include "tests/memtap/harness.h"
#include "tests/vdisk/server.h"

#define BLOCKS 4096u
#define BYTES ((uint64_t)BLOCKS * BLOCK)
#define NBD_EINVAL 22u
#define NBD_ENOSPC 28u

/* ── a model of the disk ── */

#define DEPTH 16u	/* requests at a time */
#define FREEZES 20u
#define RUN_MAX 8u

struct request {
	enum nbd_type type;
	unsigned block, count;
	uint32_t value;
	uint8_t data[RUN_MAX * BLOCK];
};

static uint32_t model[BLOCKS], frozen_model[BLOCKS];

static bool is_value(const uint8_t *block, uint32_t value)
{
	uint8_t expected[BLOCK];

	fill_block(expected, value);
	return !memcmp(block, expected, BLOCK);
}

/* Each has a part of the disk of its own, since requests under way have no order. */
static void make_request(struct request *r, unsigned slot)
{
	static const enum nbd_type types[] = { NBD_READ, NBD_READ, NBD_WRITE, NBD_WRITE,
					       NBD_WRITE, NBD_ZERO, NBD_TRIM };
	unsigned part = BLOCKS / DEPTH;

	r->type = types[(unsigned)rand() % ARRAY_SIZE(types)];
	r->count = 1 + (unsigned)rand() % RUN_MAX;
	r->block = slot * part + (unsigned)rand() % (part - r->count + 1);
	r->value = r->type == NBD_WRITE ? (uint32_t)rand() | 1 : 0;
	for (unsigned i = 0; i < r->count; i++)
		fill_block(r->data + i * BLOCK, r->value);
}

static void send_request(const struct server *s, const struct request *r, unsigned slot)
{
	nbd_send(s, r->type, slot, (uint64_t)r->block * BLOCK, r->count * BLOCK, r->data);
	for (unsigned i = 0; r->type != NBD_READ && i < r->count; i++)
		model[r->block + i] = r->value;
}

static void take_answer(const struct server *s, struct request *requests)
{
	struct request *r;
	uint64_t slot;
	uint32_t error = nbd_answer(s, &slot);

	CU_ASSERT_EQUAL_FATAL(error, 0);
	CU_ASSERT_FATAL(slot < DEPTH);
	r = &requests[slot];
	if (r->type != NBD_READ)
		return;
	nbd_data(s, r->data, r->count * BLOCK);
	for (unsigned i = 0; i < r->count; i++) {
		if (!is_value(r->data + i * BLOCK, model[r->block + i]))
			CU_FAIL("a block is not what was written last");
	}
}

static void check_disk(const struct server *s)
{
	static uint8_t data[64 * BLOCK];

	for (unsigned block = 0; block < BLOCKS; block += 64) {
		CU_ASSERT_EQUAL_FATAL(
			nbd_do(s, NBD_READ, (uint64_t)block * BLOCK, sizeof(data), data), 0);
		for (unsigned i = 0; i < 64; i++) {
			if (!is_value(data + i * BLOCK, model[block + i]))
				CU_FAIL("a block is not what was written last");
		}
	}
}

/* ── frozen files ── */

static uint64_t checksum(int fd)
{
	static uint8_t data[1 << 20];
	uint64_t sum = 0, at = 0;
	ssize_t got;

	while ((got = pread(fd, data, sizeof(data), (off_t)at)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			sum = sum * 1099511628211ull + data[i];
		at += (uint64_t)got;
	}
	return sum;
}

struct frozen {
	struct test_layer layer;
	uint64_t sums[2];
};

static struct frozen frozen[VDISK_MAX_LAYERS];
static unsigned layers;		/* all; frozen are those but the last */

static void note_frozen(struct frozen *f)
{
	f->sums[0] = checksum(f->layer.file);
	f->sums[1] = checksum(f->layer.map);
}

static void check_frozen(void)
{
	for (unsigned i = 0; i + 1 < layers; i++) {
		CU_ASSERT_EQUAL(checksum(frozen[i].layer.file), frozen[i].sums[0]);
		CU_ASSERT_EQUAL(checksum(frozen[i].layer.map), frozen[i].sums[1]);
	}
}

static void add_layer(const struct server *s)
{
	struct test_layer layer = test_layer_create(s->bytes);

	CU_ASSERT_EQUAL_FATAL(server_layer(s, &layer), 0);
	if (layers)
		note_frozen(&frozen[layers - 1]);
	frozen[layers++].layer = layer;
}

static void drop_layers(void)
{
	for (unsigned i = 0; i < layers; i++)
		test_layer_destroy(&frozen[i].layer);
	layers = 0;
}

/* Merges all that can be; the answer comes later. */
static struct test_layer begin_merge(const struct server *s, uint32_t first, uint32_t count)
{
	struct vdisk_request r = { .op = VDISK_MERGE, .tag = 77, .first = first, .count = count };
	struct test_layer into = test_layer_create(s->bytes);

	server_send(s, &r, sizeof(r), (int[]){ into.file, into.map }, 2);
	return into;
}

static void end_merge(const struct server *s, struct test_layer into, unsigned first,
		      unsigned count)
{
	struct vdisk_reply reply = server_reply(s, NULL);

	CU_ASSERT_EQUAL_FATAL(reply.error, 0);
	CU_ASSERT_EQUAL(reply.tag, 77);
	CU_ASSERT_EQUAL(reply.layers, layers - count + 1);
	for (unsigned i = first; i < first + count; i++)
		test_layer_destroy(&frozen[i].layer);
	memmove(&frozen[first + 1], &frozen[first + count],
		(layers - first - count) * sizeof(frozen[0]));
	frozen[first].layer = into;
	note_frozen(&frozen[first]);
	layers -= count - 1;
}

/* An image of the disk at the last freeze is as the model was then. */
static void check_copy(const struct server *s)
{
	struct vdisk_request r = { .op = VDISK_COPY, .count = layers - 1 };
	_cleanup_fd_ int image = memfd_create("image", 0);
	struct vdisk_reply reply = server_say(s, &r, &image, 1);
	uint8_t data[BLOCK];

	CU_ASSERT_EQUAL(reply.error, 0);
	CU_ASSERT_EQUAL(reply.bytes, BYTES);
	for (unsigned i = 0; i < BLOCKS; i++) {
		CU_ASSERT_EQUAL_FATAL(pread(image, data, BLOCK, (off_t)i * BLOCK), BLOCK);
		if (!is_value(data, frozen_model[i]))
			CU_FAIL("the image is of another moment");
	}
}

/* ── tests ── */

/* Requests are under way all the time; at each freeze as well, and while layers are merged. */
static void test_model(void)
{
	static struct request requests[DEPTH];
	struct server s = server_start(BYTES);

	srand(5);
	memset(model, 0, sizeof(model));
	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	for (unsigned freeze = 0; freeze < FREEZES; freeze++) {
		bool merges = layers > 4;
		struct test_layer into;

		if (merges)
			into = begin_merge(&s, 0, layers - 1);
		for (unsigned batch = 0; batch < 40; batch++) {
			for (unsigned i = 0; i < DEPTH; i++) {
				make_request(&requests[i], i);
				send_request(&s, &requests[i], i);
			}
			if (batch == 39 && merges)
				end_merge(&s, into, 0, layers - 1);
			if (batch == 39 && freeze % 2)
				add_layer(&s);
			for (unsigned i = 0; i < DEPTH; i++)
				take_answer(&s, requests);
		}
		if (freeze % 2 == 0) {
			memcpy(frozen_model, model, sizeof(model));
			add_layer(&s);
			check_copy(&s);
		}
		check_frozen();
	}
	check_disk(&s);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

static void test_base(void)
{
	_cleanup_fd_ int base = memfd_create("base", 0);
	struct vdisk_request r = { .op = VDISK_BASE };
	struct server s = server_start(BYTES);
	uint8_t data[BLOCK];

	for (unsigned i = 0; i < BLOCKS; i++) {
		model[i] = i < 1000 ? i + 1 : 0;
		fill_block(data, model[i]);
		if (model[i])
			CU_ASSERT_EQUAL(pwrite(base, data, BLOCK, (off_t)i * BLOCK), BLOCK);
	}
	CU_ASSERT_EQUAL(server_say(&s, &r, &base, 1).error, 0);
	CU_ASSERT_EQUAL(server_open(&s), EINVAL);	/* nothing to write into */
	CU_ASSERT_EQUAL(server_say(&s, &r, &base, 1).error, EINVAL);	/* a second one */
	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	check_disk(&s);
	fill_block(data, model[3] = 99);
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_WRITE, 3 * BLOCK, BLOCK, data), 0);
	model[4] = 0;
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_TRIM, 4 * BLOCK, BLOCK, NULL), 0);
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_FLUSH, 0, 0, NULL), 0);
	check_disk(&s);
	add_layer(&s);
	add_layer(&s);
	/* a base is never merged */
	r = (struct vdisk_request){ .op = VDISK_MERGE, .first = 0, .count = 2 };
	CU_ASSERT_EQUAL(server_say(&s, &r, (int[]){ base, base }, 2).error, EINVAL);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

static void test_requests_outside(void)
{
	static const struct { uint64_t offset; uint32_t bytes; } wrong[] = {
		{ 512, BLOCK }, { 0, 512 }, { BYTES, BLOCK }, { BYTES - BLOCK, 2 * BLOCK },
		{ UINT64_MAX - BLOCK + 1, BLOCK }, { BYTES - BLOCK + 512, BLOCK - 512 },
	};
	struct server s = server_start(BYTES);
	uint8_t data[2 * BLOCK] = { 0 };

	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		CU_ASSERT_EQUAL(nbd_do(&s, NBD_READ, wrong[i].offset, wrong[i].bytes, data),
				NBD_EINVAL);
		CU_ASSERT_NOT_EQUAL(nbd_do(&s, NBD_WRITE, wrong[i].offset, wrong[i].bytes, data),
				    0);
		CU_ASSERT_NOT_EQUAL(nbd_do(&s, NBD_ZERO, wrong[i].offset, wrong[i].bytes, NULL), 0);
	}
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_READ, BYTES - BLOCK, BLOCK, data), 0);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* A file on a file system of 1 MB, which goes with its last descriptor. Return: -1: none. */
static int small_file(void)
{
	int pair[2], fd = -1, byte = 0;
	unsigned nfds = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid = fork();
	if (!pid) {
		if (unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) == 0 &&
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		    mount("small", "/tmp", "tmpfs", 0, "size=1m") == 0)
			fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
		if (fd >= 0)
			io_send_fds(pair[1], &byte, 1, &fd, 1);
		_exit(0);
	}
	close(pair[1]);
	if (io_recv_fds(pair[0], &byte, 1, &fd, 1, &nfds) != 1)
		fd = -1;
	close(pair[0]);
	waitpid(pid, NULL, 0);
	return fd;
}

static void test_full(void)
{
	struct test_layer layer = test_layer_create(BYTES);
	struct server s = server_start(BYTES);
	static uint8_t data[64 * BLOCK];
	unsigned block = 0;
	int small = small_file();

	if (small < 0) {
		fprintf(stderr, "left out: no small file system to be had\n");
		small = memfd_create("small", 0);
	}
	cleanup_close(&layer.file);
	layer.file = small;
	CU_ASSERT_EQUAL(server_layer(&s, &layer), 0);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	memset(data, 1, sizeof(data));
	for (; block < BLOCKS; block += 64) {
		uint32_t error = nbd_do(&s, NBD_WRITE, (uint64_t)block * BLOCK, sizeof(data), data);

		if (!error)
			continue;
		CU_ASSERT_EQUAL(error, NBD_ENOSPC);
		break;
	}
	CU_ASSERT(block >= 64 && block < 512);
	/* nothing of it shows, what was there is there, and what is freed can be written */
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_READ, (uint64_t)block * BLOCK, BLOCK, data), 0);
	CU_ASSERT(is_value(data, 0));
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_READ, 0, BLOCK, data), 0);
	CU_ASSERT(data[0] == 1 && data[BLOCK - 1] == 1);
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_TRIM, 0, 64 * BLOCK, NULL), 0);
	CU_ASSERT_EQUAL(nbd_do(&s, NBD_WRITE, (uint64_t)block * BLOCK, BLOCK, data), 0);
	test_layer_destroy(&layer);
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* Fills two layers, 4 MB in all, and freezes them. */
static void fill_layers(const struct server *s)
{
	uint8_t data[BLOCK];

	memset(model, 0, sizeof(model));
	add_layer(s);
	CU_ASSERT_EQUAL(server_open(s), 0);
	for (unsigned block = 0; block < 1024; block++) {
		fill_block(data, model[block] = block + 1);
		CU_ASSERT_EQUAL_FATAL(
			nbd_do(s, NBD_WRITE, (uint64_t)block * BLOCK, BLOCK, data), 0);
		if (block % 512 == 511)
			add_layer(s);
	}
	memcpy(frozen_model, model, sizeof(model));
}

/* A merge or copy for which there is no room says so and changes nothing; the next one has its turn. */
static void test_no_room_for_jobs(void)
{
	struct vdisk_request merge = { .op = VDISK_MERGE, .count = 2 };
	struct vdisk_request copy = { .op = VDISK_COPY, .count = 2 };
	struct test_layer into = test_layer_create(BYTES);
	struct server s = server_start(BYTES);
	_cleanup_fd_ int image = small_file();

	cleanup_close(&into.file);
	into.file = small_file();
	fill_layers(&s);
	if (image < 0 || into.file < 0) {
		fprintf(stderr, "left out: no small file system to be had\n");
	} else {
		CU_ASSERT_EQUAL(server_say(&s, &merge, (int[]){ into.file, into.map }, 2).error,
				ENOSPC);
		check_frozen();
		check_disk(&s);
		CU_ASSERT_EQUAL(server_say(&s, &copy, &image, 1).error, ENOSPC);
	}
	check_copy(&s);
	end_merge(&s, begin_merge(&s, 0, 2), 0, 2);
	check_copy(&s);
	check_disk(&s);
	test_layer_destroy(&into);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* ── control ── */

static void test_waits_for_open(void)
{
	struct server s = server_start(BYTES);
	struct test_layer layer = test_layer_create(BYTES);
	uint8_t data[BLOCK] = { 1 };
	uint64_t cookie;

	nbd_send(&s, NBD_READ, 5, 0, BLOCK, NULL);
	nbd_send(&s, NBD_FLUSH, 6, 0, 0, NULL);
	CU_ASSERT_EQUAL(server_layer(&s, &layer), 0);
	CU_ASSERT_EQUAL(nbd_answer(&s, &cookie), 0);
	CU_ASSERT_EQUAL(cookie, 6);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	CU_ASSERT_EQUAL(nbd_answer(&s, &cookie), 0);
	CU_ASSERT_EQUAL(cookie, 5);
	nbd_data(&s, data, BLOCK);
	CU_ASSERT(is_value(data, 0));
	CU_ASSERT_EQUAL(server_open(&s), EINVAL);
	test_layer_destroy(&layer);
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

static void test_bad_messages(void)
{
	static const struct vdisk_request wrong[] = {
		{ .op = 0 }, { .op = 99 }, { .op = VDISK_OPEN, .first = 1 },
		{ .op = VDISK_STATS, .count = 1 }, { .op = VDISK_LAYER }, { .op = VDISK_BASE },
		{ .op = VDISK_INHERITED }, { .op = VDISK_MERGE, .count = 2 }, { .op = VDISK_COPY },
	};
	struct server s = server_start(BYTES);
	struct vdisk_request r = { .op = VDISK_STATS, .tag = 9 };
	struct test_layer layer = test_layer_create(BYTES);
	const int fds[] = { layer.file, layer.map };
	struct vdisk_reply reply;
	uint8_t bytes[64] = { VDISK_STATS };

	add_layer(&s);
	add_layer(&s);
	add_layer(&s);
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
		CU_ASSERT_EQUAL(server_say(&s, &wrong[i], NULL, 0).error, EINVAL);
	for (unsigned len = 0; len < sizeof(bytes); len++) {
		if (!len || len == sizeof(r))
			continue;
		server_send(&s, bytes, len, NULL, 0);
		CU_ASSERT_EQUAL(server_reply(&s, NULL).error, EINVAL);
	}
	r = (struct vdisk_request){ .op = VDISK_MERGE };
	for (r.first = 0; r.first < 4; r.first++) {
		for (r.count = 0; r.count < 5; r.count++) {
			if (r.first || r.count != 2)
				CU_ASSERT_EQUAL(server_say(&s, &r, fds, 2).error, EINVAL);
		}
	}
	r.first = UINT32_MAX;
	r.count = 3;
	CU_ASSERT_EQUAL(server_say(&s, &r, fds, 2).error, EINVAL);
	r = (struct vdisk_request){ .op = VDISK_MERGE, .count = 2 };
	/* not new: bits are set */
	CU_ASSERT_EQUAL(pwrite(layer.map, "x", 1, 5), 1);
	CU_ASSERT_EQUAL(server_say(&s, &r, fds, 2).error, EINVAL);
	r = (struct vdisk_request){ .op = VDISK_COPY, .count = 3 };
	CU_ASSERT_EQUAL(server_say(&s, &r, fds, 1).error, EINVAL);	/* the top is not frozen */
	r.op = VDISK_STATS;
	r.count = 0;
	r.tag = 1234;
	reply = server_say(&s, &r, NULL, 0);
	CU_ASSERT(reply.tag == 1234 && !reply.error && reply.layers == 3);
	test_layer_destroy(&layer);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* Anything that is not a right message is refused; the disk stays what it is. */
static void test_fuzz(void)
{
	struct server s = server_start(BYTES);
	struct test_layer layer = test_layer_create(BYTES), odd = test_layer_create(2 * BYTES);
	_cleanup_fd_ int null = open("/dev/null", O_RDWR), dir = open("/", O_RDONLY);
	const int fds[] = { layer.file, odd.map, null, dir, s.control, odd.file, -1 };

	memset(model, 0, sizeof(model));
	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	srand(7);
	for (unsigned i = 0; i < 3000; i++) {
		struct vdisk_request r = { .op = (uint32_t)rand() % 10, .tag = i,
					   .first = (uint32_t)rand() % 4 ? (uint32_t)rand() % 5 :
									   (uint32_t)rand() * 3u,
					   .count = (uint32_t)rand() % 4 ? (uint32_t)rand() % 5 :
									   UINT32_MAX };
		unsigned at = (unsigned)rand() % 4, nfds = (unsigned)rand() % 4;
		size_t len = rand() % 8 ? sizeof(r) : 1 + (size_t)rand() % sizeof(r);

		server_send(&s, &r, len, fds + at, nfds < 6 - at ? nfds : 0);
		(void)server_reply(&s, NULL);
	}
	check_disk(&s);
	test_layer_destroy(&layer);
	test_layer_destroy(&odd);
	drop_layers();
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* sfd is gone: so is the process, though requests wait. */
static void test_control_closes(void)
{
	struct server s = server_start(BYTES);

	nbd_send(&s, NBD_READ, 5, 0, BLOCK, NULL);
	nbd_send(&s, NBD_READ, 6, 0, BLOCK, NULL);
	CU_ASSERT_EQUAL(server_stop(&s), 0);
}

/* QEMU is gone. */
static void test_client_closes(void)
{
	struct server s = server_start(BYTES);

	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	cleanup_close(&s.nbd);
	s.nbd = -1;
	CU_ASSERT_EQUAL(server_wait(&s), 0);
	drop_layers();
}

/* ── QEMU's own client ── */

static int run_qemu_io(const char *path)
{
	char uri[256];

	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", path);
	execlp("qemu-io", "qemu-io", "-f", "raw", uri, "-c", "write -P 0x41 512 1024", "-c",
	       "read -P 0x41 512 1024", "-c", "read -P 0 0 512", "-c", "write -P 0x42 1M 1M", "-c",
	       "discard 1M 64k", "-c", "write -z 1200k 10k", "-c", "read -P 0 1M 64k", "-c",
	       "read -P 0 1200k 10k", "-c", "read -P 0x42 1210k 800k", "-c", "flush", NULL);
	_exit(127);
}

static void test_qemu(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char folder[] = "/tmp/vdisk-test-XXXXXX";
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), status = -1;
	struct server s;
	pid_t pid;

	if (system("qemu-io --version >/dev/null 2>&1")) {
		fprintf(stderr, "left out: no qemu-io\n");
		return;
	}
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/nbd", folder);
	CU_ASSERT_EQUAL_FATAL(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	CU_ASSERT_EQUAL_FATAL(listen(listener, 1), 0);
	pid = fork();
	if (!pid)
		run_qemu_io(at.sun_path);
	s = server_start_for(BYTES, accept(listener, NULL, NULL));
	add_layer(&s);
	CU_ASSERT_EQUAL(server_open(&s), 0);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_EQUAL(status, 0);
	CU_ASSERT_EQUAL(server_stop(&s), 0);
	drop_layers();
	close(listener);
	unlink(at.sun_path);
	rmdir(folder);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "as a model says, through freezes and merges", test_model },
		{ "a base below", test_base },
		{ "requests that are no blocks of the disk", test_requests_outside },
		{ "a full disk", test_full },
		{ "no room for merges and copies", test_no_room_for_jobs },
		{ "requests wait for the disk to be open", test_waits_for_open },
		{ "bad messages", test_bad_messages },
		{ "any messages", test_fuzz },
		{ "it ends with its control socket", test_control_closes },
		{ "it ends with its client", test_client_closes },
		{ "QEMU reads and writes less than a block", test_qemu },
	};

	need_nbdkit();
	signal(SIGPIPE, SIG_IGN);
	return run_tests("server", tests, ARRAY_SIZE(tests), argc, argv);
}
