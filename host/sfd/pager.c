/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Starts sf-memtap, and another one when it dies. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/pager_internal.h"
#include "host/sfd/paths.h"
#include "host/sfd/probe.h"

#define PAGER_NICE	 (-10)
#define PAGER_MAX_DEATHS 5
#define PAGER_DEATHS_S	 10

static int pager_spawn(struct pager *p, char why[WHY_BYTES]);

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
		pager_give_up(p);
		return;
	}
	log_warn("memtap %s: ended (status 0x%x), starting another", p->name, status);
	pager_repeat_all(p);
	if (pager_spawn(p, why)) {
		log_err("memtap %s: %s", p->name, why);
		pager_give_up(p);
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
	p->ask_again = evtimer_new(d->base, pager_ask_again, p);
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
