/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The executor: in a clone, one connection to the keeper, and the commands that it asks for.
 *
 * Output goes from pipes to the connection as fast as the keeper takes it, and no faster: while more
 * than OUT_HIGH bytes wait for it no pipe is read, and the command that writes there waits. A command
 * is over when its first process has ended and what is in its pipes was sent; what it left running
 * in the background does not delay that.
 */
#define _GNU_SOURCE
#include "executor.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "loop.h"
#include "wire.h"

#define CONNECT_MS	  5000		 /* for one try */
#define CONNECT_PAUSE_MS  50		 /* between tries: the network of a clone comes up */
#define CONNECT_LIMIT_NS  60000000000ull /* then the keeper is taken to be gone */
#define OUT_HIGH	  (256u << 10)

struct running;

struct pipe_source {
	struct source source; /* fd -1: at its end */
	struct running *running;
	uint32_t fd; /* 1 or 2, of the command */
};

/* A command that runs. */
struct running {
	struct running *next;
	struct executor *executor;
	uint32_t number;
	pid_t pid;
	bool exited;
	int status;
	struct pipe_source out[2];
};

struct executor {
	struct loop loop;
	const struct executor_order *order;
	struct source sock, children;
	struct wire wire;
	struct running *running;
	bool left;	/* LEAVE came */
	int error;	/* of the connection */
};

/* ---- talking ---- */

static void say(struct executor *e, enum mpi_type type, uint32_t number,
		struct wire_payload *payload)
{
	int rc = wire_queue(&e->wire, type, number, payload);

	wire_free(payload);
	if (rc && !e->error)
		e->error = rc;
}

static void say_exited(struct executor *e, uint32_t number, int status, const char *why)
{
	struct mpi_exited exited = { .status = status };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &exited, sizeof(exited));
	wire_add_string(&payload, why);
	say(e, MPI_EXITED, number, &payload);
}

/* Asks for what there is to wait for on the connection, and on the pipes if there is room. */
static void watch_all(struct executor *e)
{
	uint32_t pipes = e->wire.out_len > OUT_HIGH ? 0 : EPOLLIN;
	int rc = loop_watch(&e->loop, &e->sock, EPOLLIN | (e->wire.out_len ? EPOLLOUT : 0u));

	for (struct running *r = e->running; r; r = r->next) {
		for (int i = 0; i < 2; i++) {
			if (r->out[i].source.fd >= 0 && pipes)
				rc = rc ? rc : loop_watch(&e->loop, &r->out[i].source, pipes);
			else
				loop_forget(&e->loop, &r->out[i].source);
		}
	}
	if (rc && !e->error)
		e->error = rc;
}

/* ---- output and end of a command ---- */

static void close_pipe(struct pipe_source *p)
{
	loop_forget(&p->running->executor->loop, &p->source);
	if (p->source.fd >= 0)
		close(p->source.fd);
	p->source.fd = -1;
}

/* Sends one piece. Return: false if there is none now. */
static bool pump(struct pipe_source *p)
{
	struct mpi_output head = { .fd = p->fd };
	static char data[MPI_MAX_DATA];
	struct wire_payload payload = { 0 };
	ssize_t got;

	if (p->source.fd < 0)
		return false;
	do {
		got = read(p->source.fd, data, sizeof(data));
	} while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) {
		close_pipe(p);
		return false;
	}
	wire_add(&payload, &head, sizeof(head));
	wire_add(&payload, data, (size_t)got);
	say(p->running->executor, MPI_OUTPUT, p->running->number, &payload);
	return true;
}

static void forget_running(struct running *r)
{
	struct running **at = &r->executor->running;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	close_pipe(&r->out[0]);
	close_pipe(&r->out[1]);
	free(r);
}

/* Says that a command has ended once what it printed is sent, as far as there is room for it. */
static void finish(struct running *r)
{
	struct executor *e = r->executor;

	for (int i = 0; i < 2; i++) {
		while (e->wire.out_len <= OUT_HIGH && pump(&r->out[i]))
			;
	}
	if (e->wire.out_len > OUT_HIGH)
		return;
	say_exited(e, r->number, r->status, "");
	forget_running(r);
}

static void finish_all(struct executor *e)
{
	struct running *next;

	for (struct running *r = e->running; r; r = next) {
		next = r->next;
		if (r->exited)
			finish(r);
	}
}

static void pipe_ready(struct source *source, uint32_t events)
{
	struct pipe_source *p = (struct pipe_source *)source; /* its first member */

	(void)events;
	pump(p);
}

static void children_ready(struct source *source, uint32_t events)
{
	struct executor *e = (struct executor *)((char *)source - offsetof(struct executor, children));
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	(void)events;
	while (read(source->fd, &info, sizeof(info)) > 0)
		;
	if (e->order->silence && e->order->silence->count)
		silence_keep(e->order->silence);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct running *r = e->running;

		while (r && (r->pid != pid || r->exited))
			r = r->next;
		if (!r || WIFSTOPPED(status))
			continue;
		r->exited = true;
		r->status = status;
	}
}

/* ---- what the keeper wants ---- */

static struct running *find(struct executor *e, uint32_t number)
{
	struct running *r = e->running;

	while (r && r->number != number)
		r = r->next;
	return r;
}

static int on_start(struct executor *e, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct command command = { .pid = -1 };
	struct command_request request;
	_cleanup_free_ void *memory = NULL;
	struct running *r;
	char why[512];
	int rc;

	if (!frame->number || find(e, frame->number))
		return -EPROTO;
	rc = command_parse(payload, frame->length, e->order->env, &request, &memory);
	if (rc)
		return rc;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	if (command_start(&request, &command, why, sizeof(why))) {
		say_exited(e, frame->number, -1, why);
		free(r);
		return 0;
	}
	r->executor = e;
	r->number = frame->number;
	r->pid = command.pid;
	for (uint32_t i = 0; i < 2; i++) {
		r->out[i] = (struct pipe_source){ .running = r, .fd = i + 1 };
		r->out[i].source = (struct source){ .fd = command.out[i], .ready = pipe_ready };
	}
	r->next = e->running;
	e->running = r;
	log_info("executor: command %u is process %d: %s", r->number, r->pid, request.argv[0]);
	return 0;
}

static int on_signal(struct executor *e, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct running *r = find(e, frame->number);
	struct mpi_signal wanted;

	if (frame->length != sizeof(wanted))
		return -EPROTO;
	memcpy(&wanted, payload, sizeof(wanted));
	if (wanted.signal < 1 || wanted.signal >= NSIG)
		return -EPROTO;
	if (r) /* else it has ended meanwhile */
		command_signal(r->pid, wanted.signal);
	return 0;
}

static int on_leave(struct executor *e, const struct mpi_frame *frame, const uint8_t *payload)
{
	(void)frame;
	(void)payload;
	e->left = true;
	return -ECANCELED;
}

static int on_hello(struct executor *e, const struct mpi_frame *frame, const uint8_t *payload)
{
	(void)e;
	(void)payload;
	return frame->length ? -EPROTO : 0;
}

static int on_frame(void *owner, const struct mpi_frame *frame, const uint8_t *payload)
{
	static int (*const handlers[MPI_TYPES])(struct executor *, const struct mpi_frame *,
						const uint8_t *) = {
		[MPI_HELLO] = on_hello,
		[MPI_START] = on_start,
		[MPI_SIGNAL] = on_signal,
		[MPI_LEAVE] = on_leave,
	};

	return handlers[frame->type] ? handlers[frame->type](owner, frame, payload) : -EPROTO;
}

static void sock_ready(struct source *source, uint32_t events)
{
	struct executor *e = (struct executor *)((char *)source - offsetof(struct executor, sock));
	int rc = events & EPOLLOUT ? wire_flush(&e->wire) : 0;

	if (!rc && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		rc = wire_read(&e->wire, on_frame, e);
	if (rc && !e->error)
		e->error = rc;
}

/* ---- its life ---- */

/* One try. Return: a connected socket, not blocking, or -errno. */
static int try_connect(const struct sockaddr_in *to)
{
	_cleanup_fd_ int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct pollfd connected = { .fd = sock, .events = POLLOUT };
	int error = 0, on = 1, rc;
	socklen_t len = sizeof(error);

	if (sock < 0)
		return -errno;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(sock, (const struct sockaddr *)to, sizeof(*to)) && errno != EINPROGRESS)
		return -errno;
	do {
		rc = poll(&connected, 1, CONNECT_MS);
	} while (rc < 0 && errno == EINTR);
	if (rc <= 0)
		return rc ? -errno : -ETIMEDOUT;
	if (getsockopt(sock, SOL_SOCKET, SO_ERROR, &error, &len) || error)
		return -(error ? error : errno);
	return steal_fd(&sock);
}

static int connect_home(const struct sockaddr_in *to)
{
	uint64_t end_ns = io_now_ns() + CONNECT_LIMIT_NS;

	for (;;) {
		int sock = try_connect(to);

		if (sock >= 0 || io_now_ns() > end_ns)
			return sock;
		log_debug("executor: the keeper cannot be reached yet: %s", strerror(-sock));
		poll(NULL, 0, CONNECT_PAUSE_MS);
	}
}

static void say_hello(struct executor *e)
{
	struct mpi_hello hello = { .magic = MPI_MAGIC,
				   .version = MPI_VERSION,
				   .role = MPI_EXECUTOR,
				   .group = e->order->group,
				   .id = e->order->id };
	struct wire_payload payload = { 0 };

	memcpy(hello.token, e->order->token, sizeof(hello.token));
	wire_add(&payload, &hello, sizeof(hello));
	say(e, MPI_HELLO, 0, &payload);
}

static int prepare(struct executor *e)
{
	sigset_t child;
	int rc = loop_init(&e->loop);

	if (rc)
		return rc;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	e->children = (struct source){ .fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK),
				       .ready = children_ready };
	if (e->children.fd < 0)
		return -errno;
	rc = loop_watch(&e->loop, &e->children, EPOLLIN);
	if (rc)
		return rc;
	e->sock = (struct source){ .fd = connect_home(&e->order->keeper), .ready = sock_ready };
	if (e->sock.fd < 0)
		return e->sock.fd;
	e->wire.sock = e->sock.fd;
	say_hello(e);
	return 0;
}

static void finish_executor(struct executor *e)
{
	while (e->running) {
		command_signal(e->running->pid, SIGKILL);
		forget_running(e->running);
	}
	loop_fini(&e->loop);
	wire_fini(&e->wire);
	cleanup_close(&e->sock.fd);
	cleanup_close(&e->children.fd);
}

int executor_run(const struct executor_order *order)
{
	struct executor e = { .order = order,
			      .loop.fd = -1,
			      .sock.fd = -1,
			      .children.fd = -1,
			      .wire.sock = -1 };

	if (order->silence)
		silence_keep(order->silence);
	e.error = prepare(&e);
	while (!e.error) {
		int rc;

		watch_all(&e);
		rc = e.error ? 0 : loop_once(&e.loop, -1);
		finish_all(&e);
		if (!e.error)
			e.error = rc;
	}
	if (!e.left)
		log_info("executor: the connection to the keeper ended: %s", strerror(-e.error));
	finish_executor(&e);
	return e.left ? 0 : 1;
}
