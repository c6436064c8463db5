/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts sf-memtap, talks to it, remembers for it. */
#define _GNU_SOURCE
#include "host/sfd/pager.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <event2/event.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/disk.h"
#include "host/sfd/image.h"
#include "host/sfd/paths.h"
#include "host/sfd/probe.h"

#define PAGER_NICE	 (-10)
#define PAGER_MAX_DEATHS 5
#define PAGER_DEATHS_S	 10

/* One thing said to sf-memtap, with the descriptors that belong to it (ours). */
struct saying {
	struct memtap_request request;
	int *fds;
	unsigned nfds;
	unsigned once; /* so many, the last ones, are not said again */
	bool sent;
	bool keep;   /* to be said again to the next one */
	bool marker; /* ends a repetition */
	pager_done *done;
	void *arg;
	TAILQ_ENTRY(saying) entry;
};
TAILQ_HEAD(sayings, saying);

struct pager {
	struct daemon *daemon;
	char name[64];
	uid_t uid;
	pid_t pid;
	int sock;
	struct event *readable, *writable;
	struct sayings pending; /* not answered yet, in order */
	struct sayings kept;	/* answered, valid still, in order */
	struct sayings going;	/* MEMTAP_FILE_GONE, to be said again */
	struct event *ask_again;
	int page_fds[MEMTAP_MAX_FILES]; /* -1: no such file */
	uint64_t ram_bytes; /* or the disk's */
	struct sockaddr_in group;
	uint32_t next_vm;
	unsigned deaths;
	uint64_t first_death_ns;
	bool given_up;
	void (*failed)(void *arg);
	void *arg;
};

static void saying_drop_fds(struct saying *s, unsigned count)
{
	while (count--)
		close(s->fds[--s->nfds]);
}

static void saying_free(struct saying *s)
{
	saying_drop_fds(s, s->nfds);
	free(s->fds);
	free(s);
}

static void pager_flush(struct pager *p)
{
	struct saying *s;

	if (!p->pid)
		return;
	TAILQ_FOREACH(s, &p->pending, entry) {
		int rc;

		if (s->sent)
			continue;
		rc = io_send_fds(p->sock, &s->request, sizeof(s->request), s->fds, s->nfds);
		if (rc == -EAGAIN) {
			event_add(p->writable, NULL);
			return;
		}
		if (rc) {
			/* mostly it died already; what is not sent is said to the next one */
			log_debug("memtap %s: not told: %s", p->name, strerror(-rc));
			kill(p->pid, SIGKILL);
			return;
		}
		s->sent = true;
	}
}

static int pager_say(struct pager *p, const struct memtap_request *request, const int *fds,
		     unsigned nfds, unsigned once, bool keep, pager_done *done, void *arg)
{
	struct saying *s = p->given_up ? NULL : calloc(1, sizeof(*s));

	if (!s)
		return p->given_up ? -EPIPE : -ENOMEM;
	s->fds = calloc(nfds ? nfds : 1, sizeof(*s->fds));
	if (!s->fds) {
		saying_free(s);
		return -ENOMEM;
	}
	s->request = *request;
	s->once = once;
	s->keep = keep;
	s->done = done;
	s->arg = arg;
	for (; s->nfds < nfds; s->nfds++) {
		s->fds[s->nfds] = fcntl(fds[s->nfds], F_DUPFD_CLOEXEC, 3);
		if (s->fds[s->nfds] < 0) {
			int rc = -errno;

			saying_free(s);
			return rc;
		}
	}
	TAILQ_INSERT_TAIL(&p->pending, s, entry);
	pager_flush(p);
	return 0;
}

/* ---- answers ---- */

/* What must not be said to a next process any more. */
static void unkeep(struct pager *p, bool (*match)(const struct saying *s, uint32_t number),
		   uint32_t number)
{
	struct saying *s, *next;

	for (s = TAILQ_FIRST(&p->kept); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		if (!match(s, number))
			continue;
		TAILQ_REMOVE(&p->kept, s, entry);
		saying_free(s);
	}
	TAILQ_FOREACH(s, &p->pending, entry) {
		if (match(s, number))
			s->keep = false;
	}
}

static bool about_file(const struct saying *s, uint32_t file)
{
	switch (s->request.op) {
	case MEMTAP_FILE:
	case MEMTAP_ARM:
	case MEMTAP_LAYERS:
	case MEMTAP_BEGIN:
	case MEMTAP_BEGIN_LOCAL:
		return s->request.file == file;
	default:
		return false;
	}
}

static bool about_clone(const struct saying *s, uint32_t vm)
{
	return s->request.op == MEMTAP_CLONE && s->request.vm == vm;
}

/* Its pages have been handed down: only now nothing of it may be needed again. */
static void file_free(struct pager *p, unsigned file)
{
	unkeep(p, about_file, file);
	close(p->page_fds[file]);
	p->page_fds[file] = -1;
}

/* An older snapshot is still being given its pages: ask again in a while. */
static void gone_later(struct pager *p, struct saying *s)
{
	static const struct timeval again = { 0, 50000 };

	TAILQ_INSERT_TAIL(&p->going, s, entry);
	if (!evtimer_pending(p->ask_again, NULL))
		evtimer_add(p->ask_again, &again);
}

static void ask_again(evutil_socket_t fd, short what, void *arg)
{
	struct pager *p = arg;
	struct saying *s;

	(void)fd;
	(void)what;
	while ((s = TAILQ_FIRST(&p->going))) {
		TAILQ_REMOVE(&p->going, s, entry);
		s->sent = false;
		TAILQ_INSERT_TAIL(&p->pending, s, entry);
	}
	pager_flush(p);
}

static void pager_answered(struct pager *p, const struct memtap_reply *reply)
{
	struct saying *s = TAILQ_FIRST(&p->pending);

	if (!s || !s->sent || s->request.op != reply->op) {
		log_err("memtap %s: an answer out of turn (op %u)", p->name, reply->op);
		kill(p->pid, SIGKILL);
		return;
	}
	TAILQ_REMOVE(&p->pending, s, entry);
	if (reply->error && !s->done)
		log_warn("memtap %s: request %u failed: %s", p->name, reply->op,
			 strerror(reply->error));
	if (s->request.op == MEMTAP_FILE_GONE && reply->error == EINPROGRESS) {
		gone_later(p, s);
		return;
	}
	if (s->request.op == MEMTAP_FILE_GONE)
		file_free(p, s->request.file);
	saying_drop_fds(s, s->once); /* dead pages: they are in the file's map now */
	s->once = 0;
	if (s->keep && !reply->error)
		TAILQ_INSERT_TAIL(&p->kept, s, entry);
	if (s->done)
		s->done(s->arg, -reply->error, reply);
	if (!s->keep || reply->error)
		saying_free(s);
	else
		s->done = NULL;
}

static int pager_spawn(struct pager *p, char why[WHY_BYTES]);

/*
 * Puts what was said and is still valid in front of what is not answered, in its order and marked
 * as said before; behind all of that a message that is new: only then memtap knows every snapshot
 * and lets the parent write. What an earlier repetition did not come to is marked already.
 */
static void repeat_all(struct pager *p)
{
	struct saying *s, *next, *last_again = NULL;
	struct saying *marker = calloc(1, sizeof(*marker));

	if (!marker)
		abort(); /* a parent that waits for ever is worse than one that ends */
	for (s = TAILQ_FIRST(&p->pending); s; s = next) {
		next = TAILQ_NEXT(s, entry);
		s->sent = false;
		if (s->request.flags & MEMTAP_F_AGAIN)
			last_again = s;
		if (!s->marker)
			continue;
		TAILQ_REMOVE(&p->pending, s, entry);
		saying_free(s);
	}
	marker->marker = true;
	marker->request.op = MEMTAP_STATS;
	marker->request.vm = MEMTAP_ALL;
	if (last_again)
		TAILQ_INSERT_AFTER(&p->pending, last_again, marker, entry);
	else
		TAILQ_INSERT_HEAD(&p->pending, marker, entry);
	while ((s = TAILQ_LAST(&p->kept, sayings))) {
		TAILQ_REMOVE(&p->kept, s, entry);
		s->request.flags |= MEMTAP_F_AGAIN;
		s->sent = false;
		TAILQ_INSERT_HEAD(&p->pending, s, entry);
	}
}

/* No process any more: who waits for an answer gets none, and the family hears of it. */
static void give_up(struct pager *p)
{
	struct saying *s;

	p->given_up = true;
	while ((s = TAILQ_FIRST(&p->pending))) {
		TAILQ_REMOVE(&p->pending, s, entry);
		if (s->done)
			s->done(s->arg, -EPIPE, NULL);
		saying_free(s);
	}
	p->failed(p->arg);
}

static void pager_died(struct pager *p)
{
	char why[WHY_BYTES];
	uint64_t now = io_now_ns();
	int status = 0;

	event_free(p->readable);
	event_free(p->writable);
	close(p->sock);
	kill(p->pid, SIGKILL);
	waitpid(p->pid, &status, 0);
	p->pid = 0;
	if (now - p->first_death_ns > PAGER_DEATHS_S * 1000000000ull) {
		p->first_death_ns = now;
		p->deaths = 0;
	}
	if (++p->deaths > PAGER_MAX_DEATHS) {
		log_err("memtap %s: ended (status 0x%x), the %uth time in %d s: giving it up",
			p->name, status, p->deaths, PAGER_DEATHS_S);
		give_up(p);
		return;
	}
	log_warn("memtap %s: ended (status 0x%x), starting another", p->name, status);
	repeat_all(p);
	if (pager_spawn(p, why)) {
		log_err("memtap %s: %s", p->name, why);
		give_up(p);
	}
}

static void pager_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pager *p = arg;
	struct memtap_stats stats = { 0 };
	pid_t pid = p->pid;

	(void)what;
	for (;;) {
		ssize_t got = recv(fd, &stats, sizeof(stats), MSG_DONTWAIT);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got != sizeof(stats.head) && got != sizeof(stats)) {
			pager_died(p);
			return;
		}
		pager_answered(p, &stats.head);
		if (p->pid != pid)
			return;
		memset(&stats, 0, sizeof(stats));
	}
}

static void pager_writable(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	pager_flush(arg);
}

/* ---- the process ---- */

/* In the child: becomes an unprivileged process in namespaces of its own, then sf-memtap. */
static void become_memtap(struct pager *p, int sock, const char *program)
{
	struct rlimit no_core = { 0, 0 };
	char number[16];
	char *argv[] = { (char *)program, number, p->name, NULL };
	int file;

	snprintf(number, sizeof(number), "%d", 3);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	/* dup2() onto itself would leave it to be closed by exec */
	if ((sock == 3 ? io_set_inherit(3, true) : dup2(sock, 3)) < 0 || close_range(4, ~0u, 0))
		_exit(126);
	/*
	 * Opened by us: its user need not be able to search the folders above, as that of root's
	 * home.
	 */
	file = open(program, O_PATH | O_CLOEXEC);
	setrlimit(RLIMIT_CORE, &no_core);
	/* whoever waits for a page waits for us: before the vCPUs, whose work is long */
	setpriority(PRIO_PROCESS, 0, PAGER_NICE);
	/* its UDP socket was made in the host's network; it needs no network of its own */
	if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) ||
	    setgroups(0, NULL) || setresgid(p->uid, p->uid, p->uid) ||
	    setresuid(p->uid, p->uid, p->uid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user cleared it */
	execveat(file, "", argv, environ, AT_EMPTY_PATH);
	_exit(127);
}

static int pager_spawn(struct pager *p, char why[WHY_BYTES])
{
	char program[PATH_MAX];
	int pair[2];
	pid_t pid;

	paths_libexec(p->daemon, "sf-memtap", program, sizeof(program));
	if (access(program, X_OK)) {
		snprintf(why, WHY_BYTES, "cannot run %.160s: %s", program, strerror(errno));
		return -errno;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		snprintf(why, WHY_BYTES, "no socket for sf-memtap: %s", strerror(errno));
		return -errno;
	}
	pid = fork();
	if (!pid)
		become_memtap(p, pair[1], program);
	close(pair[1]);
	if (pid < 0) {
		snprintf(why, WHY_BYTES, "cannot start sf-memtap: %s", strerror(errno));
		close(pair[0]);
		return -EAGAIN;
	}
	p->pid = pid;
	p->sock = pair[0];
	io_set_nonblock(p->sock, true);
	p->readable = event_new(p->daemon->base, p->sock, EV_READ | EV_PERSIST, pager_readable, p);
	p->writable = event_new(p->daemon->base, p->sock, EV_WRITE, pager_writable, p);
	event_priority_set(p->readable, 0);
	event_add(p->readable, NULL);
	pager_flush(p);
	return 0;
}

/* Makes the UDP socket on the host's address. Return: the descriptor, or -errno. */
static int udp_socket(struct in_addr addr, uint16_t *port)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr = addr };
	socklen_t len = sizeof(at);
	int room = 4 << 20;

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    getsockname(fd, (struct sockaddr *)&at, &len))
		return -errno;
	/* a burst of pages must not overflow the receiver; FORCE: we are root */
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	*port = ntohs(at.sin_port);
	return steal_fd(&fd);
}

struct pager *pager_start(struct daemon *d, const char *name, uid_t uid, uint64_t ram_bytes,
			  const struct sockaddr_in *group, uint16_t *port,
			  void (*failed)(void *arg), void *arg, char why[WHY_BYTES])
{
	struct memtap_request init = { .op = MEMTAP_INIT,
				       .bytes = ram_bytes,
				       .arg = d->config.sweep_pages };
	_cleanup_fd_ int udp = udp_socket(d->self->addr, port), heard = probe_group_socket(group);
	int fds[2] = { udp, heard };
	struct pager *p = calloc(1, sizeof(*p));

	if (heard < 0)
		log_warn("memtap %s: hears no multicast: %s", name, strerror(-heard));
	if (udp < 0 || !p) {
		snprintf(why, WHY_BYTES, "no UDP socket on %s for pages: %s",
			 inet_ntoa(d->self->addr), strerror(udp < 0 ? -udp : ENOMEM));
		free(p);
		return NULL;
	}
	p->daemon = d;
	snprintf(p->name, sizeof(p->name), "%s", name);
	p->uid = uid;
	p->ram_bytes = ram_bytes;
	p->group = *group;
	p->failed = failed;
	p->arg = arg;
	TAILQ_INIT(&p->pending);
	TAILQ_INIT(&p->kept);
	TAILQ_INIT(&p->going);
	p->ask_again = evtimer_new(d->base, ask_again, p);
	for (unsigned i = 0; i < MEMTAP_MAX_FILES; i++)
		p->page_fds[i] = -1;
	if (pager_spawn(p, why)) {
		event_free(p->ask_again);
		free(p);
		return NULL;
	}
	if (pager_say(p, &init, fds, heard < 0 ? 1 : 2, 0, true, NULL, NULL)) {
		snprintf(why, WHY_BYTES, "out of memory");
		pager_stop(p);
		return NULL;
	}
	return p;
}

void pager_stop(struct pager *p)
{
	struct saying *s;

	if (!p)
		return;
	if (p->pid) {
		event_free(p->readable);
		event_free(p->writable);
		close(p->sock);
		kill(p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	while ((s = TAILQ_FIRST(&p->pending))) {
		TAILQ_REMOVE(&p->pending, s, entry);
		if (s->done)
			s->done(s->arg, -ECANCELED, NULL);
		saying_free(s);
	}
	while ((s = TAILQ_FIRST(&p->kept))) {
		TAILQ_REMOVE(&p->kept, s, entry);
		saying_free(s);
	}
	while ((s = TAILQ_FIRST(&p->going))) {
		TAILQ_REMOVE(&p->going, s, entry);
		saying_free(s);
	}
	event_free(p->ask_again);
	for (unsigned i = 0; i < MEMTAP_MAX_FILES; i++) {
		if (p->page_fds[i] >= 0)
			close(p->page_fds[i]);
	}
	free(p);
}

pid_t pager_pid(const struct pager *p)
{
	return p->pid;
}

/* ---- what is said ---- */

int pager_parent(struct pager *p, int uffd, int ram_fd, uint64_t base, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_PARENT, .base = base, .bytes = p->ram_bytes };
	int fds[2] = { uffd, ram_fd };
	int rc = pager_say(p, &r, fds, 2, 0, true, done, arg);

	close(uffd);
	return rc;
}

/* A memfd that any user who is handed it may open again: QEMU does, by /proc/self/fd. */
static int make_memfd(const char *name, uint64_t bytes)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) || fchmod(fd, 0666))
		return -errno;
	return steal_fd(&fd);
}

int pager_file_new(struct pager *p)
{
	struct memtap_request r = { .op = MEMTAP_FILE };
	_cleanup_fd_ int pages = -1, map = -1;
	int fds[2], rc;

	while (r.file < MEMTAP_MAX_FILES && p->page_fds[r.file] >= 0)
		r.file++;
	if (r.file == MEMTAP_MAX_FILES)
		return -ENFILE;
	pages = make_memfd("sf-pages", p->ram_bytes);
	map = make_memfd("sf-map", p->ram_bytes / MEMTAP_PAGE_BYTES);
	if (pages < 0 || map < 0)
		return pages < 0 ? pages : map;
	fds[0] = pages;
	fds[1] = map;
	rc = pager_say(p, &r, fds, 2, 0, true, NULL, NULL);
	if (rc)
		return rc;
	p->page_fds[r.file] = steal_fd(&pages);
	return (int)r.file;
}

int pager_file_fd(struct pager *p, unsigned file)
{
	return p->page_fds[file];
}

void pager_file_gone(struct pager *p, unsigned file)
{
	struct memtap_request r = { .op = MEMTAP_FILE_GONE, .file = file };

	pager_say(p, &r, NULL, 0, 0, false, NULL, NULL);
}

/* What goes with a message, after the places of the nodes. */
struct enclosed {
	const int *fds;
	unsigned nfds;
	bool once; /* the last one is not said again */
};

/* The dead pages, or nothing. */
static struct enclosed dead_pages(const int *dead_fd)
{
	bool there = *dead_fd >= 0;

	return (struct enclosed){ .fds = dead_fd, .nfds = there, .once = there };
}

/* Says something with the places, if there are any, and what else belongs to it. */
static int say_enclosed(struct pager *p, const struct memtap_request *r, int nodes_fd,
			const struct enclosed *with, pager_done *done, void *arg)
{
	int fds[2 + 2 * MEMTAP_MAX_LAYERS];
	unsigned nfds = 0;

	if (nodes_fd >= 0)
		fds[nfds++] = nodes_fd;
	memcpy(&fds[nfds], with->fds, with->nfds * sizeof(*fds));
	return pager_say(p, r, fds, nfds + with->nfds, with->once, true, done, arg);
}

/* Says how a file's pages travel: by unicast, nobody needs to know of the others. */
static int say_route(struct pager *p, struct memtap_request *r, const struct route *route,
		     uint32_t node, const struct enclosed *with, pager_done *done, void *arg)
{
	_cleanup_fd_ int nodes = -1;
	size_t len = route->nodes * sizeof(*route->at);

	r->mode = route->mode;
	r->push_pages_per_s = route->push_pages;
	r->compress = route->compress;
	if (route->mode != MC_UNICAST) {
		r->node = node;
		r->nodes = route->nodes;
		r->group = memtap_at(p->group.sin_addr, ntohs(p->group.sin_port));
		nodes = memfd_create("sf-nodes", MFD_CLOEXEC);
		if (nodes < 0 || pwrite(nodes, route->at, len, 0) != (ssize_t)len)
			return nodes < 0 ? -errno : -ENOMEM;
	}
	return say_enclosed(p, r, nodes, with, done, arg);
}

int pager_arm(struct pager *p, unsigned file, uint64_t snapshot,
	      const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, int dead_fd,
	      pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_ARM, .file = file, .snapshot = snapshot };
	struct enclosed with = dead_pages(&dead_fd);

	memcpy(r.key, key, sizeof(r.key));
	return say_route(p, &r, route, 0, &with, done, arg);
}

int pager_layers(struct pager *p, unsigned file, uint64_t snapshot,
		 const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route,
		 const struct disk_stack *stack)
{
	struct memtap_request r = { .op = MEMTAP_LAYERS,
				    .file = file,
				    .snapshot = snapshot,
				    .vm = 1,
				    .arg = stack->count };
	int fds[1 + 2 * MEMTAP_MAX_LAYERS];
	struct enclosed with = { .fds = fds };

	_Static_assert(MEMTAP_MAX_LAYERS >= VDISK_MAX_LAYERS, "memtap takes every stack");
	memcpy(r.key, key, sizeof(r.key));
	fds[with.nfds++] = image_fd(stack->image);
	for (unsigned i = 0; i < stack->count; i++) {
		fds[with.nfds++] = stack->layers[i]->file;
		fds[with.nfds++] = stack->layers[i]->map;
	}
	return say_route(p, &r, route, 0, &with, NULL, NULL);
}

int pager_begin(struct pager *p, unsigned file, uint64_t snapshot,
		const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, uint32_t node,
		int dead_fd)
{
	struct memtap_request r = { .op = MEMTAP_BEGIN,
				    .file = file,
				    .snapshot = snapshot,
				    .source = route->at[0] };
	struct enclosed with = dead_pages(&dead_fd);

	memcpy(r.key, key, sizeof(r.key));
	return say_route(p, &r, route, node, &with, NULL, NULL);
}

int pager_begin_local(struct pager *p, unsigned file, unsigned other, int dead_fd)
{
	struct memtap_request r = { .op = MEMTAP_BEGIN_LOCAL, .file = file, .other = other };

	struct enclosed with = dead_pages(&dead_fd);

	return say_enclosed(p, &r, -1, &with, NULL, NULL);
}

int pager_clone(struct pager *p, unsigned file, int uffd, uint64_t base,
		const struct pager_window *window, uint32_t *vm, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_CLONE,
				    .file = file,
				    .vm = p->next_vm++,
				    .base = base,
				    .bytes = p->ram_bytes };
	int fds[2] = { uffd, window->fd };
	int rc;

	if (window->fd >= 0) {
		r.window = window->first;
		r.window_pages = window->pages;
	}
	rc = pager_say(p, &r, fds, window->fd >= 0 ? 2 : 1, 0, true, done, arg);
	close(uffd);
	*vm = r.vm;
	return rc;
}

void pager_clone_gone(struct pager *p, uint32_t vm)
{
	struct memtap_request r = { .op = MEMTAP_CLONE_GONE, .vm = vm };

	unkeep(p, about_clone, vm);
	pager_say(p, &r, NULL, 0, 0, false, NULL, NULL);
}

int pager_stats(struct pager *p, uint32_t vm, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_STATS, .vm = vm };

	return pager_say(p, &r, NULL, 0, 0, false, done, arg);
}

void pager_forget(struct pager *p, void *arg)
{
	struct saying *s;

	TAILQ_FOREACH(s, &p->pending, entry) {
		if (s->arg == arg)
			s->done = NULL;
	}
}
