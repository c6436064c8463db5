/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of messages, and the socket they come from. */
#include "host/memtap/control.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

#define MESSAGES_AT_ONCE 16	/* before faults have their turn */

/*
 * A handler takes a descriptor over by stealing it; what it leaves is closed. `fds`: -1 for those
 * that did not come. Return: 0 or -errno, and then nothing has changed.
 */
typedef int handler(struct memtap *m, const struct memtap_request *r, int *fds);

/* Is this where RAM is mapped? */
static bool is_mapping(const struct memtap *m, const struct memtap_request *r)
{
	return r->bytes == m->pages << SNAP_PAGE_SHIFT && r->base &&
	       r->base % SNAP_PAGE_BYTES == 0 && r->base <= UINT64_MAX - r->bytes;
}

static bool is_again(const struct memtap_request *r)
{
	return r->flags & MEMTAP_F_AGAIN;
}

static int handle_init(struct memtap *m, const struct memtap_request *r, int *fds)
{
	int error;

	if (m->pages || !r->bytes || r->bytes % SNAP_PAGE_BYTES || r->bytes > MEMTAP_MAX_RAM_BYTES)
		return -EINVAL;
	error = memtap_init(m, r->bytes, fds, r->arg, is_again(r));
	if (!error) {
		steal_fd(&fds[0]);
		steal_fd(&fds[1]);
	}
	return error;
}

/* A process that serves disks has no parent. */
static bool has_disks(const struct memtap *m)
{
	const struct mem_file *f;

	LIST_FOREACH(f, &m->files, link) {
		if (f->layers)
			return true;
	}
	return false;
}

static int handle_parent(struct memtap *m, const struct memtap_request *r, int *fds)
{
	int error;

	if (!is_mapping(m, r) || has_disks(m))
		return -EINVAL;
	error = memtap_attach_parent(m, fds[0], fds[1], r->base);
	if (!error) {
		steal_fd(&fds[0]);
		steal_fd(&fds[1]);
	}
	return error;
}

static int handle_file(struct memtap *m, const struct memtap_request *r, int *fds)
{
	int error;

	if (mem_file_find(m, r->file))
		return -EEXIST;
	if (m->file_count >= MEMTAP_MAX_FILES)
		return -ENOSPC;
	error = mem_file_create(m, r->file, fds[0], fds[1]);
	if (!error) {
		steal_fd(&fds[0]);
		steal_fd(&fds[1]);
	}
	return error;
}

/* A file that has no source yet. Return: 0 or -errno. */
static int find_waiting(struct memtap *m, uint32_t number, struct mem_file **file)
{
	*file = mem_file_find(m, number);
	if (!*file)
		return -ENOENT;
	return (*file)->source == MEM_WAITING ? 0 : -EINVAL;
}

static int begin_snapshot(struct mem_file *file, const struct memtap_request *r,
			  const struct mem_wire *wire, const uint64_t *dead)
{
	return mem_file_freeze(file, wire, dead, is_again(r));
}

static int begin_remote(struct mem_file *file, const struct memtap_request *r,
			const struct mem_wire *wire, const uint64_t *dead)
{
	(void)r;
	return mem_file_begin(file, wire, dead);
}

static int begin_local(struct mem_file *file, const struct memtap_request *r,
		       const struct mem_wire *wire, const uint64_t *dead)
{
	struct mem_file *other = mem_file_find(file->m, r->other);

	(void)wire;
	return other ? mem_file_begin_local(file, other, dead) : -ENOENT;
}

/* The dead pages, if a descriptor came. Return: 0 and *bits (NULL: none), or -errno. */
static int map_dead(const struct memtap *m, int fd, size_t *bytes, uint64_t **bits)
{
	struct stat st;
	void *at;

	*bytes = (m->pages + 63) / 64 * sizeof(**bits);
	*bits = NULL;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != *bytes)
		return -EINVAL;
	at = mmap(NULL, *bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	*bits = at;
	return 0;
}

/* Where source and members are, if a descriptor came. Return: 0 and *places, or -errno. */
static int read_places(int fd, uint32_t nodes, struct memtap_source **places)
{
	size_t bytes = nodes * sizeof(**places);
	struct stat st;

	*places = NULL;
	if (!nodes)
		return 0;
	if (fd < 0 || nodes > MC_MAX_MEMBERS || fstat(fd, &st) < 0)
		return -EINVAL;
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes)
		return -EINVAL;
	*places = malloc(bytes);
	if (!*places)
		return -ENOMEM;
	if (pread(fd, *places, bytes, 0) == (ssize_t)bytes)
		return 0;
	free(*places);
	*places = NULL;
	return -EINVAL;
}

/* What is said about the network makes sense. */
static bool is_wire(const struct memtap_request *r)
{
	bool remote = r->op != MEMTAP_BEGIN_LOCAL;

	if (!remote)
		return !r->mode && !r->node && !r->nodes && !r->push_pages_per_s && !r->compress;
	if (r->mode >= MC_MODES || r->compress > 1 || (r->nodes && r->node >= r->nodes))
		return false;
	return r->op == MEMTAP_ARM || r->op == MEMTAP_LAYERS || !r->nodes || r->node > 0;
}

static int handle_begin(struct memtap *m, const struct memtap_request *r, int *fds)
{
	static int (*const begin[])(struct mem_file *file, const struct memtap_request *r,
				    const struct mem_wire *wire, const uint64_t *dead) = {
		[MEMTAP_ARM] = begin_snapshot,
		[MEMTAP_BEGIN] = begin_remote,
		[MEMTAP_BEGIN_LOCAL] = begin_local,
	};
	struct mem_file *file;
	int error = is_wire(r) ? find_waiting(m, r->file, &file) : -EINVAL;
	_cleanup_free_ struct memtap_source *places = NULL;
	struct mem_wire wire = { .request = r };
	uint64_t *dead;
	size_t bytes;

	if (!error)
		error = read_places(fds[0], r->nodes, &places);
	if (!error)
		error = map_dead(m, r->nodes ? fds[1] : fds[0], &bytes, &dead);
	if (error)
		return error;
	wire.places = places;
	error = r->nodes || fds[1] < 0 ? begin[r->op](file, r, &wire, dead) : -EINVAL;
	if (dead)
		munmap(dead, bytes);
	return error;
}

static unsigned count_fds(const int *fds)
{
	unsigned count = 0;

	while (count < MEM_CONTROL_FDS && fds[count] >= 0)
		count++;
	return count;
}

static int handle_layers(struct memtap *m, const struct memtap_request *r, int *fds)
{
	unsigned places_fds = r->nodes > 0;
	struct mem_layers_fds from = { .base = r->vm, .count = r->arg, .fds = fds + places_fds };
	_cleanup_free_ struct memtap_source *places = NULL;
	struct mem_wire wire = { .request = r };
	struct mem_layers *layers;
	struct mem_file *file;
	int error = is_wire(r) ? find_waiting(m, r->file, &file) : -EINVAL;

	if (error)
		return error;
	if (r->vm > 1 || r->arg > MEMTAP_MAX_LAYERS || snap_parent_attached(m->parent) ||
	    count_fds(fds) != places_fds + r->vm + 2 * r->arg)
		return -EINVAL;
	error = read_places(fds[0], r->nodes, &places);
	if (!error)
		error = mem_layers_create(m->pages, &from, &layers);
	if (error)
		return error;
	wire.places = places;
	error = mem_file_freeze_disk(file, &wire, layers);
	if (error)
		mem_layers_destroy(layers);
	return error;
}

static int handle_clone(struct memtap *m, const struct memtap_request *r, int *fds)
{
	struct mem_file *file = mem_file_find(m, r->file);
	struct mem_window window = { 0 };
	int error = 0;

	if (!file)
		return -ENOENT;
	if (r->vm == MEMTAP_ALL || !is_mapping(m, r) || file->source >= MEM_RETIRING)
		return -EINVAL;
	if ((fds[1] >= 0) != (r->window_pages > 0) || (r->window && !r->window_pages))
		return -EINVAL;
	if (mem_clone_find(m, r->vm))
		return -EEXIST;
	if (m->clone_count >= MEMTAP_MAX_CLONES)
		return -ENOSPC;
	if (r->window_pages)
		error = mem_window_open(&window, fds[1], r->window, r->window_pages, m->pages);
	if (!error)
		error = mem_clone_create(file, r->vm, fds[0], r->base, &window);
	if (error)
		mem_window_close(&window);
	else
		steal_fd(&fds[0]);
	return error;
}

static int handle_clone_gone(struct memtap *m, const struct memtap_request *r, int *fds)
{
	struct mem_clone *clone = mem_clone_find(m, r->vm);

	(void)fds;
	if (!clone)
		return -ENOENT;
	mem_clone_destroy(clone);
	return 0;
}

static int handle_file_gone(struct memtap *m, const struct memtap_request *r, int *fds)
{
	struct mem_file *file = mem_file_find(m, r->file);

	(void)fds;
	return file ? mem_file_release(file) : -ENOENT;
}

/* The counters themselves are filled in by mem_control_handle(). */
static int handle_stats(struct memtap *m, const struct memtap_request *r, int *fds)
{
	(void)fds;
	return r->vm == MEMTAP_ALL || mem_clone_find(m, r->vm) ? 0 : -ENOENT;
}

static const struct {
	const char *name;
	handler *handle;
	unsigned min_fds, max_fds;
} messages[] = {
	[MEMTAP_INIT] = { "init", handle_init, 1, 2 },
	[MEMTAP_PARENT] = { "parent", handle_parent, 2, 2 },
	[MEMTAP_FILE] = { "file", handle_file, 2, 2 },
	[MEMTAP_ARM] = { "arm", handle_begin, 0, 2 },
	[MEMTAP_BEGIN] = { "begin", handle_begin, 0, 2 },
	[MEMTAP_BEGIN_LOCAL] = { "begin-local", handle_begin, 0, 2 },
	[MEMTAP_CLONE] = { "clone", handle_clone, 1, 2 },
	[MEMTAP_CLONE_GONE] = { "clone-gone", handle_clone_gone, 0, 0 },
	[MEMTAP_FILE_GONE] = { "file-gone", handle_file_gone, 0, 0 },
	[MEMTAP_STATS] = { "stats", handle_stats, 0, 0 },
	[MEMTAP_LAYERS] = { "layers", handle_layers, 0, MEM_CONTROL_FDS },
};
_Static_assert(ARRAY_SIZE(messages) == MEMTAP_LAYERS + 1, "a row for each message");
_Static_assert(MEM_CONTROL_FDS <= IO_MAX_FDS, "they fit into one message");

static int judge(const struct memtap *m, const struct memtap_request *r, unsigned nfds)
{
	if (r->op < MEMTAP_INIT || r->op > MEMTAP_LAYERS)
		return -EINVAL;
	if (nfds < messages[r->op].min_fds || nfds > messages[r->op].max_fds ||
	    r->flags & ~MEMTAP_F_AGAIN)
		return -EINVAL;
	if (r->op != MEMTAP_CLONE && (r->window_pages || r->window))
		return -EINVAL;
	return m->pages || r->op == MEMTAP_INIT ? 0 : -EINVAL;
}

size_t mem_control_handle(struct memtap *m, const void *message, size_t len, int *fds,
			  unsigned nfds, struct memtap_stats *stats)
{
	uint64_t start_ns = io_now_ns();
	int taken[MEM_CONTROL_FDS];
	struct memtap_request r = { 0 };
	int error = -EINVAL;

	memset(stats, 0, sizeof(*stats));
	for (unsigned i = 0; i < MEM_CONTROL_FDS; i++)
		taken[i] = i < nfds ? steal_fd(&fds[i]) : -1;
	if (len == sizeof(r)) {
		memcpy(&r, message, sizeof(r));
		error = judge(m, &r, nfds);
		if (!error && m->restating && !is_again(&r))
			memtap_resume(m);
		if (!error)
			error = messages[r.op].handle(m, &r, taken);
	}
	for (unsigned i = 0; i < nfds; i++)
		cleanup_close(&taken[i]);
	if (r.op == MEMTAP_STATS && !error)
		memtap_stats(m, mem_clone_find(m, r.vm), stats);
	if (error)
		log_info("message %s: file %u vm %u: error %d",
			 r.op < ARRAY_SIZE(messages) && r.op ? messages[r.op].name : "unknown",
			 r.file, r.vm, -error);
	stats->head.op = r.op;
	stats->head.error = -error;
	stats->head.elapsed_ns = io_now_ns() - start_ns;
	return r.op == MEMTAP_STATS ? sizeof(*stats) : sizeof(stats->head);
}

struct mem_control {
	struct memtap *m;
	int sock;
	struct event *readable, *writable;
	struct memtap_stats answer;	/* that sfd has no room for yet, */
	size_t answer_len;		/* if not 0 */
};

/* Return: true if the answer is gone. Else reading stops until it is. */
static bool send_answer(struct mem_control *c)
{
	int error = io_send_fds(c->sock, &c->answer, c->answer_len, NULL, 0);

	if (error == -EAGAIN) {
		event_del(c->readable);
		event_add(c->writable, NULL);
		return false;
	}
	c->answer_len = 0;
	if (error) {
		log_err("control: answer not sent: error %d", -error);
		event_base_loopbreak(c->m->base);
	}
	return !error;
}

/* Return: true if there may be another message. */
static bool handle_message(struct mem_control *c)
{
	/* one byte more, so that a message that is too long is seen to be */
	uint8_t message[sizeof(struct memtap_request) + 1];
	int fds[MEM_CONTROL_FDS];
	unsigned nfds = 0;
	ssize_t len = io_recv_fds(c->sock, message, sizeof(message), fds, MEM_CONTROL_FDS, &nfds);

	if (len == -EAGAIN)
		return false;
	if (len == 0 || (len < 0 && len != -EMSGSIZE)) {
		log_debug("control: closed");
		event_base_loopbreak(c->m->base);
		return false;
	}
	c->answer_len = mem_control_handle(c->m, message, len < 0 ? 0 : (size_t)len, fds, nfds,
					   &c->answer);
	return send_answer(c);
}

static void on_readable(evutil_socket_t sock, short what, void *arg)
{
	(void)sock;
	(void)what;
	for (unsigned i = 0; i < MESSAGES_AT_ONCE && handle_message(arg); i++)
		;
}

static void on_writable(evutil_socket_t sock, short what, void *arg)
{
	struct mem_control *c = arg;

	(void)sock;
	(void)what;
	if (send_answer(c))
		event_add(c->readable, NULL);
}

struct mem_control *mem_control_create(struct memtap *m, int sock)
{
	struct mem_control *c = calloc(1, sizeof(*c));
	int error = io_set_nonblock(sock, true);

	if (!c || error) {
		free(c);
		errno = error ? -error : ENOMEM;
		return NULL;
	}
	c->m = m;
	c->sock = -1;
	c->readable = event_new(m->base, sock, EV_READ | EV_PERSIST, on_readable, c);
	c->writable = event_new(m->base, sock, EV_WRITE, on_writable, c);
	if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0) {
		mem_control_destroy(c);
		errno = ENOMEM;
		return NULL;
	}
	c->sock = sock;
	return c;
}

void mem_control_destroy(struct mem_control *control)
{
	if (control->readable)
		event_free(control->readable);
	if (control->writable)
		event_free(control->writable);
	cleanup_close(&control->sock);
	free(control);
}
