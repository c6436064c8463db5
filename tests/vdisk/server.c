/* SPDX-License-Identifier: GPL-2.0-or-later */
/* nbdkit started, told, asked. */
#include "config.h"

#include "tests/vdisk/server.h"

#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
#include "host/vdisk/layer.h"
#include "tests/memtap/harness.h"

#define DIE(what)                                                                     \
	do {                                                                          \
		fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, what, strerror(errno)); \
		exit(99);                                                             \
	} while (0)

struct test_layer test_layer_create(uint64_t disk_bytes)
{
	struct test_layer l = { memfd_create("layer", MFD_CLOEXEC),
				memfd_create("map", MFD_CLOEXEC) };

	if (l.file < 0 || l.map < 0 || ftruncate(l.map, (off_t)layer_map_bytes(disk_bytes)) < 0)
		DIE("memfd");
	return l;
}

void test_layer_destroy(struct test_layer *layer)
{
	cleanup_close(&layer->file);
	cleanup_close(&layer->map);
	*layer = (struct test_layer){ -1, -1 };
}

void fill_block(uint8_t block[BLOCK], uint32_t value)
{
	uint64_t x = value;

	for (unsigned i = 0; i < BLOCK; i += 8) {
		x = value ? x * 6364136223846793005ull + 1442695040888963407ull : 0;
		memcpy(block + i, &x, 8);
	}
}

void need_nbdkit(void)
{
	if (system("nbdkit --version >/dev/null 2>&1")) {
		fprintf(stderr, "skipped: no nbdkit\n");
		exit(SKIP);
	}
}

/* nbdkit was not built with our sanitizers: their library has to come first. */
static void preload_sanitizer(void)
{
	static const char *const symbols[] = { "__asan_init", "__tsan_init" };

	for (unsigned i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *at = dlsym(RTLD_DEFAULT, symbols[i]);
		Dl_info info;

		if (at && dladdr(at, &info))
			setenv("LD_PRELOAD", info.dli_fname, 1);
	}
	/* what nbdkit leaves behind is not ours */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
}

static void become_nbdkit(uint64_t bytes, int control, int nbd)
{
	const char *plugin = getenv("SF_VDISK");
	char control_arg[32], bytes_arg[64];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	io_set_inherit(control, true);
	if (dup2(nbd, 0) < 0 || dup2(nbd, 1) < 0)
		DIE("dup2");
	snprintf(control_arg, sizeof(control_arg), "control=%d", control);
	snprintf(bytes_arg, sizeof(bytes_arg), "bytes=%llu", (unsigned long long)bytes);
	preload_sanitizer();
	execlp("nbdkit", "nbdkit", "--foreground", "--single",
	       plugin ? plugin : "../../host/vdisk/.libs/sf-vdisk.so", control_arg, bytes_arg,
	       NULL);
	DIE("nbdkit");
}

struct server server_start_for(uint64_t bytes, int nbd)
{
	struct server s = { .nbd = -1, .bytes = bytes };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		DIE("socketpair");
	s.pid = fork();
	if (s.pid < 0)
		DIE("fork");
	if (!s.pid)
		become_nbdkit(bytes, pair[1], nbd);
	close(pair[1]);
	close(nbd);
	s.control = pair[0];
	return s;
}

/* ── NBD, as its doc/proto.md has it: fixed newstyle, simple replies ── */

#define NBD_MAGIC 0x4e42444d41474943ull
#define NBD_OPTION_MAGIC 0x49484156454f5054ull
#define NBD_OPT_EXPORT_NAME 1u
#define NBD_FIXED_NO_ZEROES 3u
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_REPLY_MAGIC 0x67446698u

static void nbd_get(int fd, void *to, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (poll(&p, 1, TEST_PATIENCE_MS) != 1 || io_read_full(fd, to, len))
		DIE("nbdkit does not answer");
}

static void nbd_hello(const struct server *s)
{
	struct __attribute__((packed)) {
		uint64_t magic, option_magic;
		uint16_t flags;
	} hello;
	struct __attribute__((packed)) {
		uint32_t flags;
		uint64_t magic;
		uint32_t option, len;
	} answer = { htobe32(NBD_FIXED_NO_ZEROES), htobe64(NBD_OPTION_MAGIC),
		     htobe32(NBD_OPT_EXPORT_NAME), 0 };
	struct __attribute__((packed)) {
		uint64_t bytes;
		uint16_t flags;
	} export;

	nbd_get(s->nbd, &hello, sizeof(hello));
	if (be64toh(hello.magic) != NBD_MAGIC || io_write_full(s->nbd, &answer, sizeof(answer)))
		DIE("hello");
	nbd_get(s->nbd, &export, sizeof(export));
	if (be64toh(export.bytes) != s->bytes)
		DIE("size");
}

struct server server_start(uint64_t bytes)
{
	struct server s;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		DIE("socketpair");
	s = server_start_for(bytes, pair[1]);
	s.nbd = pair[0];
	nbd_hello(&s);
	return s;
}

void nbd_send(const struct server *s, enum nbd_type type, uint64_t cookie, uint64_t offset,
	      uint32_t bytes, const void *data)
{
	struct __attribute__((packed)) {
		uint32_t magic;
		uint16_t flags, type;
		uint64_t cookie, offset;
		uint32_t bytes;
	} r = { htobe32(NBD_REQUEST_MAGIC), 0, htobe16((uint16_t)type), htobe64(cookie),
		htobe64(offset), htobe32(bytes) };

	if (io_write_full(s->nbd, &r, sizeof(r)) ||
	    (type == NBD_WRITE && io_write_full(s->nbd, data, bytes)))
		DIE("NBD request");
}

uint32_t nbd_answer(const struct server *s, uint64_t *cookie)
{
	struct __attribute__((packed)) {
		uint32_t magic, error;
		uint64_t cookie;
	} a;

	nbd_get(s->nbd, &a, sizeof(a));
	if (be32toh(a.magic) != NBD_REPLY_MAGIC)
		DIE("NBD reply");
	*cookie = be64toh(a.cookie);
	return be32toh(a.error);
}

void nbd_data(const struct server *s, void *data, uint32_t bytes)
{
	nbd_get(s->nbd, data, bytes);
}

uint32_t nbd_do(const struct server *s, enum nbd_type type, uint64_t offset, uint32_t bytes,
		void *data)
{
	uint64_t cookie;
	uint32_t error;

	nbd_send(s, type, 1, offset, bytes, data);
	error = nbd_answer(s, &cookie);
	if (!error && type == NBD_READ)
		nbd_data(s, data, bytes);
	return error;
}

/* ── control ── */

int server_wait(struct server *s)
{
	int status = -1;

	for (unsigned waited_ms = 0; waited_ms < TEST_PATIENCE_MS; waited_ms += 10) {
		if (waitpid(s->pid, &status, WNOHANG) == s->pid)
			break;
		poll(NULL, 0, 10);
		status = -1;
	}
	if (status == -1) {
		kill(s->pid, SIGKILL);
		waitpid(s->pid, NULL, 0);
	}
	cleanup_close(&s->control);
	cleanup_close(&s->nbd);
	s->control = s->nbd = -1;
	return status;
}

int server_stop(struct server *s)
{
	cleanup_close(&s->control);
	s->control = -1;
	return server_wait(s);
}

void server_send(const struct server *s, const void *message, size_t len, const int *fds,
		 unsigned nfds)
{
	if (io_send_fds(s->control, message, len, fds, nfds))
		DIE("control");
}

struct vdisk_reply server_reply(const struct server *s, int *fd)
{
	struct pollfd p = { .fd = s->control, .events = POLLIN };
	struct vdisk_reply reply = { 0 };
	unsigned nfds = 0;
	int got = -1;

	if (poll(&p, 1, TEST_PATIENCE_MS) != 1 ||
	    io_recv_fds(s->control, &reply, sizeof(reply), &got, 1, &nfds) != sizeof(reply))
		DIE("sf-vdisk does not answer");
	if (fd)
		*fd = got;
	else
		cleanup_close(&got);
	return reply;
}

struct vdisk_reply server_say(const struct server *s, const struct vdisk_request *r,
			      const int *fds, unsigned nfds)
{
	struct vdisk_reply reply;

	server_send(s, r, sizeof(*r), fds, nfds);
	do {
		reply = server_reply(s, NULL);
	} while (reply.error == EINPROGRESS);
	return reply;
}

int server_layer(const struct server *s, const struct test_layer *layer)
{
	struct vdisk_request r = { .op = VDISK_LAYER };

	return server_say(s, &r, (int[]){ layer->file, layer->map }, 2).error;
}

int server_open(const struct server *s)
{
	return server_say(s, &(struct vdisk_request){ .op = VDISK_OPEN }, NULL, 0).error;
}
