/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper: who is connected, and what they may say.
 *
 * No peer is waited for: what does not go is kept, what has not come comes later. A peer in trouble is
 * marked (`error`) wherever that is found, and disconnected when nobody uses it.
 */
#define _GNU_SOURCE
#include "keeper.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"

#define HELLO_NS   10000000000ull /* in which a peer must say HELLO */
#define NOBODY_NS  10000000000ull /* that a new keeper waits for the first one */
#define LOOK_NS	   1000000000ull  /* between looks at what is due, at most, while there are clones */
#define STRANGERS  64		  /* at a time that have not said HELLO */
#define OUT_BYTES  (64u << 20)	  /* that a peer may leave untaken */

const struct keeper_libsf keeper_libsf = {
	.request_ticket = sf_request_ticket,
	.clone_ticket = sf_clone_ticket,
	.count = sf_count,
	.wait_any = sf_wait_any,
	.status_ticket = sf_status_ticket,
	.address_ticket = sf_address_ticket,
	.kill_ticket = sf_kill_ticket,
	.ticket_free = sf_ticket_free,
	.id = sf_id,
	.error = sf_error,
	.exit = sf_exit,
};

/* ---- peers ---- */

void peer_say(struct peer *peer, enum mpi_type type, uint32_t number, struct wire_payload *payload)
{
	int rc = 0;

	if (peer && !peer->error)
		rc = wire_queue(&peer->wire, type, number, payload);
	wire_free(payload);
	if (rc)
		peer->error = rc;
	else if (peer && peer->wire.out_len > OUT_BYTES)
		peer->error = -ENOBUFS;
}

static void peer_end(struct peer *peer)
{
	struct keeper *keeper = peer->keeper;
	struct peer **at = &keeper->peers;

	log_at(peer->error == -EPIPE ? LOG_LVL_DEBUG : LOG_LVL_WARN, "peer %u: disconnected: %s",
	       peer->number, strerror(-peer->error));
	loop_forget(&keeper->loop, &peer->source);
	close(peer->source.fd);
	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;
	groups_lose_asker(peer);
	groups_lose_executor(peer);
	launches_lose_launcher(peer);
	wire_fini(&peer->wire);
	free(peer);
}

/* Disconnects those in trouble. To end one may bring others into trouble. */
static void end_marked(struct keeper *keeper)
{
	struct peer *peer = keeper->peers;

	while (peer) {
		if (!peer->error) {
			peer = peer->next;
			continue;
		}
		peer_end(peer);
		peer = keeper->peers;
	}
}

/* ---- what they say ---- */

/* Compares without telling by its time how much is right. */
static bool is_token(const struct keeper *keeper, const uint8_t *token)
{
	uint8_t differing = 0;

	for (unsigned i = 0; i < MPI_TOKEN_BYTES; i++)
		differing |= keeper->token[i] ^ token[i];
	return !differing;
}

static int on_hello(struct peer *peer, const struct mpi_frame *frame, const uint8_t *payload)
{
	static const bool by_tcp[] = { [MPI_ASKER] = true, [MPI_LAUNCHER] = false,
				       [MPI_EXECUTOR] = true };
	struct mpi_hello hello;
	int rc;

	if (frame->length != sizeof(hello))
		return -EPROTO;
	memcpy(&hello, payload, sizeof(hello));
	if (hello.magic != MPI_MAGIC || hello.version != MPI_VERSION || hello.role < MPI_ASKER ||
	    hello.role > MPI_EXECUTOR)
		return -EPROTO;
	if (peer->tcp ? !by_tcp[hello.role] || !is_token(peer->keeper, hello.token) :
			hello.role == MPI_EXECUTOR)
		return -EPERM;
	rc = hello.role == MPI_EXECUTOR ? groups_home(peer, &hello) : 0;
	if (rc)
		return rc;
	peer->role = hello.role;
	peer_say(peer, MPI_HELLO, 0, &(struct wire_payload){ 0 });
	if (peer->member) {
		launches_start(peer->member);
		if (peer->member->leaving)
			peer_say(peer, MPI_LEAVE, 0, &(struct wire_payload){ 0 });
	}
	return 0;
}

static int on_frame(void *owner, const struct mpi_frame *frame, const uint8_t *payload)
{
	static const struct {
		uint32_t role; /* that may say so */
		int (*handle)(struct peer *, const struct mpi_frame *, const uint8_t *);
	} handlers[MPI_TYPES] = {
		[MPI_HELLO] = { 0, on_hello },
		[MPI_WANT] = { MPI_ASKER, groups_want },
		[MPI_DROP] = { MPI_ASKER, groups_drop },
		[MPI_END] = { MPI_ASKER, groups_end },
		[MPI_LAUNCH] = { MPI_LAUNCHER, launches_launch },
		[MPI_OUTPUT] = { MPI_EXECUTOR, launches_output },
		[MPI_EXITED] = { MPI_EXECUTOR, launches_exited },
	};
	struct peer *peer = owner;

	if (!handlers[frame->type].handle || handlers[frame->type].role != peer->role)
		return -EPROTO;
	if (peer->role == MPI_EXECUTOR && !peer->member)
		return -EPIPE;
	return handlers[frame->type].handle(peer, frame, payload);
}

static void peer_ready(struct source *source, uint32_t events)
{
	struct peer *peer = (struct peer *)source; /* its first member */
	int rc = events & EPOLLOUT ? wire_flush(&peer->wire) : 0;

	if (!rc && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		rc = wire_read(&peer->wire, on_frame, peer);
	/* nobody who is not known may leave megabytes here */
	if (!rc && !peer->role && peer->wire.in_len > sizeof(struct mpi_frame) +
							      sizeof(struct mpi_hello))
		rc = -EPROTO;
	if (rc && !peer->error)
		peer->error = rc;
}

/* ---- doors ---- */

static unsigned count_strangers(const struct keeper *keeper)
{
	unsigned count = 0;

	for (const struct peer *p = keeper->peers; p; p = p->next)
		count += !p->role;
	return count;
}

/* Takes the socket of who came in. Return: 0 or -errno; it is the caller's then. */
static int add_peer(struct keeper *keeper, int sock, bool tcp)
{
	struct ucred user = { 0 };
	socklen_t len = sizeof(user);
	struct peer *peer;
	int on = 1;

	if (count_strangers(keeper) >= STRANGERS)
		return -EBUSY;
	if (!tcp && (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &user, &len) ||
		     (user.uid && user.uid != getuid())))
		return -EPERM;
	if (tcp)
		setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return -ENOMEM;
	*peer = (struct peer){ .source = { .fd = sock, .ready = peer_ready }, .wire.sock = sock,
			       .next = keeper->peers, .keeper = keeper, .tcp = tcp, .pid = user.pid,
			       .number = ++keeper->last_peer, .since_ns = io_now_ns() };
	keeper->peers = peer;
	return 0;
}

static void accept_all(struct keeper *keeper, int door, bool tcp)
{
	for (;;) {
		int sock = accept4(door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		int rc = sock < 0 ? -errno : add_peer(keeper, sock, tcp);

		if (sock < 0 && errno != EAGAIN && errno != ECONNABORTED)
			log_warn("keeper: cannot take a connection: %s", strerror(errno));
		if (sock < 0)
			return;
		if (rc) {
			log_warn("keeper: a connection is not taken: %s", strerror(-rc));
			close(sock);
		}
	}
}

static void unix_ready(struct source *source, uint32_t events)
{
	(void)events;
	accept_all((struct keeper *)((char *)source - offsetof(struct keeper, unix_door)),
		   source->fd, false);
}

static void tcp_ready(struct source *source, uint32_t events)
{
	(void)events;
	accept_all((struct keeper *)((char *)source - offsetof(struct keeper, tcp_door)),
		   source->fd, true);
}

/* Return: 0; -EADDRINUSE if another keeper has the name. */
static int open_unix(struct keeper *keeper)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	_cleanup_fd_ int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int len = snprintf(at.sun_path + 1, sizeof(at.sun_path) - 1, MPI_SOCKET, getuid());

	if (sock < 0 ||
	    bind(sock, (struct sockaddr *)&at,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len)) ||
	    listen(sock, SOMAXCONN))
		return -errno;
	keeper->unix_door = (struct source){ .fd = steal_fd(&sock), .ready = unix_ready };
	return loop_watch(&keeper->loop, &keeper->unix_door, EPOLLIN);
}

/* Return: 0 or -errno. */
static int open_tcp_at(struct keeper *keeper, const char *address)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	socklen_t len = sizeof(at);
	_cleanup_fd_ int sock = -1;

	if (inet_pton(AF_INET, address, &at.sin_addr) != 1)
		return -EAFNOSUPPORT;
	sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(sock, SOMAXCONN) || getsockname(sock, (struct sockaddr *)&at, &len))
		return -errno;
	keeper->home = at;
	keeper->tcp_door = (struct source){ .fd = steal_fd(&sock), .ready = tcp_ready };
	return loop_watch(&keeper->loop, &keeper->tcp_door, EPOLLIN);
}

int keeper_open_tcp(struct keeper *keeper, char *why, size_t len)
{
	char address[SF_ADDRESS_BYTES];
	int rc;

	if (keeper->tcp_door.fd >= 0)
		return 0;
	if (keeper->libsf->address_ticket(0, 0, address, sizeof(address))) {
		rc = -errno;
		snprintf(why, len, "%s", keeper->libsf->error());
		return rc;
	}
	rc = open_tcp_at(keeper, address);
	if (rc)
		snprintf(why, len, "cannot listen at %s, where clones would call: %s", address,
			 strerror(-rc));
	return rc;
}

static void children_ready(struct source *source, uint32_t events)
{
	struct keeper *keeper = (struct keeper *)((char *)source - offsetof(struct keeper, children));
	struct signalfd_siginfo info;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) > 0)
		;
	if (keeper->silence.count)
		silence_late(&keeper->silence);
}

/* ---- its life ---- */

int keeper_init(struct keeper *keeper, const struct keeper_libsf *libsf)
{
	sigset_t child;
	int rc;

	*keeper = (struct keeper){ .libsf = libsf, .loop.fd = -1, .unix_door.fd = -1, .tcp_door.fd = -1,
				   .watch_pipe.fd = -1, .children.fd = -1, .watch_write = -1,
				   .since_ns = io_now_ns() };
	if (getrandom(keeper->token, sizeof(keeper->token), 0) != sizeof(keeper->token))
		return -EIO;
	rc = loop_init(&keeper->loop);
	if (!rc)
		rc = open_unix(keeper);
	if (!rc)
		rc = groups_prepare(keeper);
	if (rc)
		return rc;
	/* before there is any thread */
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	keeper->children = (struct source){ .fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK),
					    .ready = children_ready };
	return keeper->children.fd < 0 ? -errno :
					 loop_watch(&keeper->loop, &keeper->children, EPOLLIN);
}

/* Waits for what each peer is ready for. Return: false if one is in trouble. */
static bool watch_peers(struct keeper *keeper)
{
	bool well = true;

	for (struct peer *p = keeper->peers; p; p = p->next) {
		uint32_t events = p->wire.out_len ? EPOLLOUT : 0;

		if (p->role != MPI_EXECUTOR || !launches_clogged(p))
			events |= EPOLLIN;
		if (!p->error)
			p->error = loop_watch(&keeper->loop, &p->source, events);
		well = well && !p->error;
	}
	return well;
}

/* Marks who has not said HELLO in time. Return: when the next one's time is up. */
static uint64_t strangers_tick(struct keeper *keeper, uint64_t now_ns)
{
	uint64_t due_ns = UINT64_MAX;

	for (struct peer *p = keeper->peers; p; p = p->next) {
		if (!p->role && p->since_ns + HELLO_NS <= now_ns)
			p->error = -ETIMEDOUT;
		else if (!p->role && p->since_ns + HELLO_NS < due_ns)
			due_ns = p->since_ns + HELLO_NS;
	}
	return due_ns;
}

/* What is due now. Return: milliseconds until something else is; -1: nothing. */
static int tick(struct keeper *keeper)
{
	static uint64_t (*const ticks[])(struct keeper *, uint64_t) = { groups_tick, launches_tick,
									strangers_tick };
	uint64_t now_ns = io_now_ns(), due_ns = UINT64_MAX;

	for (size_t i = 0; i < ARRAY_SIZE(ticks); i++) {
		uint64_t at_ns = ticks[i](keeper, now_ns);

		due_ns = at_ns < due_ns ? at_ns : due_ns;
	}
	if (!keeper->last_peer && keeper->since_ns + NOBODY_NS < due_ns)
		due_ns = keeper->since_ns + NOBODY_NS;
	do {
		end_marked(keeper);
	} while (!watch_peers(keeper));
	/* whose end was noticed just now may have set a time */
	if (keeper->launches || keeper->groups)
		due_ns = due_ns < now_ns + LOOK_NS ? due_ns : now_ns + LOOK_NS;
	if (due_ns == UINT64_MAX)
		return -1;
	return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / 1000000 + 1);
}

static bool is_needed(const struct keeper *keeper)
{
	if (keeper->ended)
		return false;
	if (keeper->peers || keeper->groups)
		return true;
	return !keeper->last_peer && io_now_ns() < keeper->since_ns + NOBODY_NS;
}

int keeper_run(struct keeper *keeper)
{
	int rc = 0;

	while (!rc) {
		int timeout_ms = tick(keeper);

		if (!is_needed(keeper)) {
			/* somebody may be at the door; who comes later finds it closed */
			accept_all(keeper, keeper->unix_door.fd, false);
			if (!is_needed(keeper))
				return 0;
			continue;
		}
		rc = loop_once(&keeper->loop, timeout_ms);
	}
	return rc;
}

/* Standard error is the parent's as well: a clone has its console, if that is wished for. */
static void forget_standard(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	_cleanup_fd_ int console = -1;

	if (log_enabled(LOG_LVL_INFO))
		console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		dup2(fd == STDERR_FILENO && console >= 0 ? console : null, fd);
}

void keeper_forget_parent(struct keeper *keeper)
{
	forget_standard();
	loop_fini(&keeper->loop);
	cleanup_close(&keeper->unix_door.fd);
	cleanup_close(&keeper->tcp_door.fd);
	cleanup_close(&keeper->children.fd);
	keeper->unix_door.fd = keeper->tcp_door.fd = keeper->children.fd = -1;
	for (struct peer *p = keeper->peers; p; p = p->next)
		cleanup_close(&p->source.fd);
	/*
	 * The watchers' pipe stays: a copy of a watcher writes to it, and must not write to what
	 * would have its number next. What libsf has open is its own to know, too.
	 */
}

void keeper_fini(struct keeper *keeper)
{
	while (keeper->peers) {
		keeper->peers->error = -EPIPE;
		peer_end(keeper->peers);
	}
	cleanup_close(&keeper->unix_door.fd);
	cleanup_close(&keeper->tcp_door.fd);
	cleanup_close(&keeper->children.fd);
	loop_fini(&keeper->loop);
	silence_fini(&keeper->silence);
}
