/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The double itself: what sfd and the agent would answer. Its XenStore door is in door.c. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/xs_server.h"
#include "proto/agent-socket.h"
#include "proto/xenstore-tree.h"
#include "tests/common/door.h"
#include "tests/common/double.h"
#include "tests/common/play.h"

#define ANSWERS	     8
#define REQUESTS     512
#define RESULT_BYTES 65536

struct vm {
	struct play *d;
	unsigned id;
	struct xs_server *xs;
	struct door *door;
	char result[RESULT_BYTES];
	size_t result_bytes;
};

struct play {
	int agent; /* its socket */
	struct vm vm[DOUBLE_VMS];
	unsigned next_ticket, ticket, checkpoint;
	struct {
		char verb[16], answer[160];
	} answers[ANSWERS];
	char unanswered[SF_XS_KEY_MAX + 1]; /* key of the last one */
	char requests[REQUESTS][SF_XS_REQUEST_MAX + 1];
	unsigned request_count, arrived;
	int behaviour;
	bool no_module;
};

static void node(struct vm *vm, const char *value, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void node(struct vm *vm, const char *value, const char *format, ...)
{
	char path[128];
	va_list args;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	xs_host_write(vm->xs, path, value, false);
}

static unsigned number_at(struct vm *vm, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static unsigned number_at(struct vm *vm, const char *format, ...)
{
	_cleanup_free_ char *value = NULL;
	char path[128];
	va_list args;
	size_t len;

	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	value = xs_host_read(vm->xs, path, &len);
	return value ? (unsigned)atoi(value) : 0;
}

/* ---- what sfd does with requests ---- */

static void reply(struct vm *vm, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void reply(struct vm *vm, const char *key, const char *format, ...)
{
	char path[128], text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_REPLY "/%s", key);
	xs_host_write(vm->xs, path, text, true);
}

/* A ticket's clone has ended; the last one makes it done. */
void play_end_clone(struct play *d, unsigned ticket, unsigned id, const char *state, int status,
		    const char *reason)
{
	struct vm *parent = &d->vm[0];
	unsigned running = number_at(parent, SF_XS_TICKET "/%u/running", ticket);
	char number[12];

	snprintf(number, sizeof(number), "%d", status);
	if (!strcmp(state, SF_CLONE_EXITED))
		node(parent, number, SF_XS_TICKET "/%u/clone/%u/status", ticket, id);
	else
		node(parent, reason, SF_XS_TICKET "/%u/clone/%u/reason", ticket, id);
	node(parent, state, SF_XS_TICKET "/%u/clone/%u/state", ticket, id);
	snprintf(number, sizeof(number), "%u", running - 1);
	node(parent, number, SF_XS_TICKET "/%u/running", ticket);
	if (running == 1)
		node(parent, SF_TICKET_DONE, SF_XS_TICKET "/%u/state", ticket);
}

static void do_ticket(struct vm *vm, const char *key, const char *request)
{
	struct play *d = vm->d;
	unsigned n = (unsigned)atoi(request + strlen("ticket ")),
		 granted = n < DOUBLE_ROOM ? n : DOUBLE_ROOM;
	unsigned ticket = vm->id ? d->ticket : d->next_ticket++;
	char number[12];

	snprintf(number, sizeof(number), "%u", granted);
	node(vm, number, SF_XS_TICKET "/%u/granted", ticket);
	node(vm, SF_TICKET_GRANTED, SF_XS_TICKET "/%u/state", ticket);
	reply(vm, key, "ok %u %u", ticket, granted);
}

/* The clones of a ticket are there. Return: how many. */
static unsigned make_clones(struct play *d, unsigned ticket)
{
	struct vm *parent = &d->vm[0];
	unsigned made = number_at(parent, SF_XS_TICKET "/%u/granted", ticket);
	char text[32];

	d->ticket = ticket;
	for (unsigned id = 1; id <= made; id++) {
		node(parent, SF_CLONE_RUNNING, SF_XS_TICKET "/%u/clone/%u/state", ticket, id);
		node(parent, "h2", SF_XS_TICKET "/%u/clone/%u/host", ticket, id);
		snprintf(text, sizeof(text), "10.7.%u.%u", ticket, id);
		node(parent, text, SF_XS_TICKET "/%u/clone/%u/address", ticket, id);
	}
	snprintf(text, sizeof(text), "%u", made);
	node(parent, text, SF_XS_TICKET "/%u/running", ticket);
	node(parent, SF_TICKET_RUNNING, SF_XS_TICKET "/%u/state", ticket);
	for (unsigned vm = 0; vm < DOUBLE_VMS; vm++)
		node(&d->vm[vm], text, SF_XS_ROOT "/count");
	snprintf(text, sizeof(text), "%u", ticket);
	node(parent, text, SF_XS_ROOT "/last-ticket");
	return made;
}

static void do_clone(struct vm *vm, const char *key, const char *request)
{
	unsigned ticket = (unsigned)atoi(request + strlen("clone "));
	_cleanup_free_ char *state = NULL;
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), SF_XS_TICKET "/%u/state", ticket);
	state = xs_host_read(vm->xs, path, &len);
	if (!state)
		reply(vm, key, "error ENOENT there is no ticket %u", ticket);
	else if (vm->id)
		reply(vm, key, "ok %u %u", vm->id, number_at(vm, SF_XS_ROOT "/count"));
	else if (strcmp(state, SF_TICKET_GRANTED))
		reply(vm, key, "error EBUSY ticket %u has been used", ticket);
	else
		reply(vm, key, "ok 0 %u", make_clones(vm->d, ticket));
}

static void do_checkpoint(struct vm *vm, const char *key, const char *request)
{
	(void)request;
	if (!vm->id)
		vm->d->checkpoint++;
	reply(vm, key, "ok %u %u %u", vm->d->checkpoint, vm->id, vm->id ? DOUBLE_ROOM : 0);
}

static void do_create(struct vm *vm, const char *key, const char *request)
{
	unsigned checkpoint = 0, ticket = 0;

	if (sscanf(request, "create %u %u", &checkpoint, &ticket) != 2 ||
	    checkpoint != vm->d->checkpoint)
		reply(vm, key, "error ENOENT there is no checkpoint %u", checkpoint);
	else
		reply(vm, key, "ok %u", make_clones(vm->d, ticket));
}

static void do_kill(struct vm *vm, const char *key, const char *request)
{
	unsigned ticket = (unsigned)atoi(request + strlen("kill "));
	unsigned made = number_at(vm, SF_XS_TICKET "/%u/granted", ticket);

	for (unsigned id = 1; id <= made; id++) {
		_cleanup_free_ char *state = NULL;
		char path[64];
		size_t len;

		snprintf(path, sizeof(path), SF_XS_TICKET "/%u/clone/%u/state", ticket, id);
		state = xs_host_read(vm->xs, path, &len);
		if (state && !strcmp(state, SF_CLONE_RUNNING))
			play_end_clone(vm->d, ticket, id, SF_CLONE_KILLED, 0,
				       "by sf_kill_ticket()");
	}
	reply(vm, key, "ok");
}

static void do_release(struct vm *vm, const char *key, const char *request)
{
	unsigned ticket = (unsigned)atoi(request + strlen("release "));
	char path[64];

	snprintf(path, sizeof(path), SF_XS_TICKET "/%u", ticket);
	if (number_at(vm, SF_XS_TICKET "/%u/running", ticket))
		reply(vm, key, "error EBUSY clones of ticket %u live", ticket);
	else if (xs_host_remove(vm->xs, path))
		reply(vm, key, "error ENOENT there is no ticket %u", ticket);
	else
		reply(vm, key, "ok");
}

/* The parent is back from sf_join(): not answered. */
static void do_joined(struct vm *vm, const char *key, const char *request)
{
	(void)vm;
	(void)key;
	(void)request;
}

static void do_drop(struct vm *vm, const char *key, const char *request)
{
	(void)request;
	reply(vm, key, "ok");
}

/* The VM ends: the process that plays it is killed; what it left goes to the parent. */
static void do_exit(struct vm *vm, const char *key, const char *request)
{
	struct play *d = vm->d;
	_cleanup_fd_ int fd = -1;
	char path[128], number[12];

	if (!vm->id) {
		reply(vm, key, "error EPERM this VM is no clone");
		return;
	}
	if (vm->result_bytes) {
		snprintf(path, sizeof(path), AGENT_RESULT_DIR "/%u.%u", d->ticket, vm->id);
		fd = creat(path, 0644);
		if (fd < 0 || io_write_full(fd, vm->result, vm->result_bytes))
			abort();
		snprintf(number, sizeof(number), "%zu", vm->result_bytes);
		node(&d->vm[0], number, SF_XS_TICKET "/%u/clone/%u/result", d->ticket, vm->id);
	}
	kill(atoi(key), SIGKILL);
	play_end_clone(d, d->ticket, vm->id, SF_CLONE_EXITED, atoi(request + strlen("exit ")),
		       NULL);
}

static const struct {
	const char *verb;
	void (*play)(struct vm *vm, const char *key, const char *request);
} verbs[] = {
	{ "ticket ", do_ticket }, { "clone ", do_clone },   { "checkpoint", do_checkpoint },
	{ "create ", do_create }, { "kill ", do_kill },	    { "release ", do_release },
	{ "drop ", do_drop },	  { "joined ", do_joined }, { "exit ", do_exit },
};

static void asked(struct vm *vm, const char *key, const char *request)
{
	struct play *d = vm->d;

	if (!vm->id && d->request_count < REQUESTS)
		snprintf(d->requests[d->request_count++], SF_XS_REQUEST_MAX + 1, "%s", request);
	for (unsigned i = 0; !vm->id && i < ANSWERS; i++) {
		if (!d->answers[i].verb[0] ||
		    strncmp(request, d->answers[i].verb, strlen(d->answers[i].verb)))
			continue;
		if (d->answers[i].answer[0])
			reply(vm, key, "%s", d->answers[i].answer);
		else
			snprintf(d->unanswered, sizeof(d->unanswered), "%s", key);
		return;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strncmp(request, verbs[i].verb, strlen(verbs[i].verb))) {
			verbs[i].play(vm, key, request);
			return;
		}
	}
	reply(vm, key, "error EINVAL unknown: %s", request);
}

/* A node was written or removed by the guest; a hook of the XenStore server. */
static void on_changed(void *arg, const char *path, const char *value, size_t len)
{
	struct vm *vm = arg;
	const char *at = strstr(path, SF_XS_REQUEST "/");
	char request[SF_XS_REQUEST_MAX + 1], key[SF_XS_KEY_MAX + 1];

	if (!at || !value || !len || len > SF_XS_REQUEST_MAX)
		return;
	memcpy(request, value, len);
	request[len] = 0;
	snprintf(key, sizeof(key), "%s", at + strlen(SF_XS_REQUEST "/"));
	xs_host_remove(vm->xs, path);
	asked(vm, key, request);
}

static void on_send(void *arg, const void *bytes, size_t len)
{
	struct vm *vm = arg;

	door_send(vm->door, bytes, len);
}

/* ---- what the agent does ---- */

/* A ticket's results go. */
static void remove_results(unsigned ticket)
{
	char path[128];

	for (unsigned id = 1; id < DOUBLE_VMS; id++) {
		snprintf(path, sizeof(path), AGENT_RESULT_DIR "/%u.%u", ticket, id);
		unlink(path);
	}
}

static void agent_result(struct play *d, unsigned vm, uint64_t bytes, int fd)
{
	d->vm[vm].result_bytes = bytes < RESULT_BYTES ? (size_t)bytes : RESULT_BYTES;
	if (pread(fd, d->vm[vm].result, d->vm[vm].result_bytes, 0) !=
	    (ssize_t)d->vm[vm].result_bytes)
		abort();
}

static void serve_agent(struct play *d)
{
	_cleanup_fd_ int sock = accept4(d->agent, NULL, NULL, SOCK_CLOEXEC), fd = -1;
	struct agent_sock_await message;
	const struct agent_sock_request *request = &message.head;
	struct agent_sock_reply answer = { .error = d->behaviour };
	struct ucred who = { 0 };
	socklen_t len = sizeof(who);
	unsigned nfds, vm = 0;

	if (sock < 0 || io_recv_fds(sock, &message, sizeof(message), &fd, 1, &nfds) <
				(ssize_t)sizeof(*request))
		return;
	getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len);
	for (unsigned i = 0; i < DOUBLE_VMS; i++) {
		if (door_knows(d->vm[i].door, who.pid))
			vm = i;
	}
	if (d->behaviour < 0)
		return;
	if (!d->behaviour && request->op == AGENT_SOCK_RESULT && nfds)
		agent_result(d, vm, request->value, fd);
	else if (!d->behaviour && request->op == AGENT_SOCK_ARRIVED)
		d->arrived = (unsigned)request->value;
	else if (!d->behaviour && request->op == AGENT_SOCK_FORGET)
		remove_results((unsigned)request->value);
	else if (!d->behaviour && request->op == AGENT_SOCK_AWAIT && d->no_module)
		answer.flags = AGENT_SOCK_F_NO_MODULE;
	io_send_fds(sock, &answer, sizeof(answer), NULL, 0);
}

/* ---- its life ---- */

unsigned play_fds(const struct play *d, struct pollfd *fds, unsigned room)
{
	unsigned count = 1;

	fds[0] = (struct pollfd){ .fd = d->agent, .events = POLLIN };
	for (unsigned i = 0; i < DOUBLE_VMS; i++)
		count += door_fds(d->vm[i].door, fds + count, room - count);
	return count;
}

void play_serve(struct play *d, const struct pollfd *fds, unsigned count)
{
	if (fds[0].revents)
		serve_agent(d);
	for (unsigned i = 0; i < DOUBLE_VMS; i++)
		door_serve(d->vm[i].door, fds + 1, count - 1);
}

static void vm_start(struct play *d, unsigned id)
{
	struct vm *vm = &d->vm[id];
	const struct xs_hooks hooks = { .send = on_send, .changed = on_changed };
	char text[12];

	vm->d = d;
	vm->id = id;
	vm->xs = xs_create(id + 1, NULL, &hooks, vm);
	vm->door = vm->xs ? door_listen(vm->xs, double_socket(id)) : NULL;
	if (!vm->door)
		abort();
	snprintf(text, sizeof(text), "%u", id);
	node(vm, SF_XS_VERSION, SF_XS_ROOT "/version");
	node(vm, text, SF_XS_ROOT "/id");
	node(vm, "vm-double", "name");
	node(vm, "1024", SF_XS_ROOT "/limit");
	node(vm, "10.7.0.1", SF_XS_ROOT "/net/base");
	node(vm, "10.7.255.254", SF_XS_ROOT "/net/gateway");
	xs_host_write(vm->xs, SF_XS_REQUEST, "", true);
	xs_host_write(vm->xs, SF_XS_REPLY, "", true);
}

static int agent_listen(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = AGENT_SOCKET };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	unlink(AGENT_SOCKET);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 8))
		abort();
	return fd;
}

struct play *play_start(void)
{
	struct play *d = calloc(1, sizeof(*d));

	if (!d)
		abort();
	d->next_ticket = 1;
	d->agent = agent_listen();
	for (unsigned i = 0; i < DOUBLE_VMS; i++)
		vm_start(d, i);
	return d;
}

void play_stop(struct play *d)
{
	for (unsigned i = 0; i < DOUBLE_VMS; i++) {
		door_close(d->vm[i].door);
		xs_destroy(d->vm[i].xs);
	}
	for (unsigned ticket = 1; ticket < d->next_ticket; ticket++)
		remove_results(ticket);
	close(d->agent);
	unlink(AGENT_SOCKET);
	free(d);
}

/* ---- what tests do ---- */

void play_set(struct play *d, unsigned vm, const char *path, const char *value)
{
	if (value)
		xs_host_write(d->vm[vm].xs, path, value, false);
	else
		xs_host_remove(d->vm[vm].xs, path);
}

void play_answer(struct play *d, const char *verb, const char *answer)
{
	unsigned i = 0;

	while (i < ANSWERS && d->answers[i].verb[0] && strcmp(d->answers[i].verb, verb))
		i++;
	if (i == ANSWERS)
		abort();
	snprintf(d->answers[i].verb, sizeof(d->answers[i].verb), "%s", answer ? verb : "-");
	snprintf(d->answers[i].answer, sizeof(d->answers[i].answer), "%s", answer ? answer : "");
}

void play_answer_late(struct play *d, const char *answer)
{
	reply(&d->vm[0], d->unanswered, "%s", answer);
}

void play_agent(struct play *d, int behaviour)
{
	d->behaviour = behaviour;
}

void play_module(struct play *d, bool there)
{
	d->no_module = !there;
}

void play_drop(struct play *d)
{
	for (unsigned i = 0; i < DOUBLE_VMS; i++)
		door_drop(d->vm[i].door);
}

unsigned play_count(const struct play *d, const char *words)
{
	unsigned count = 0;

	for (unsigned i = 0; i < d->request_count; i++)
		count += !strncmp(d->requests[i], words, strlen(words));
	return count;
}

void play_forget(struct play *d)
{
	d->request_count = 0;
	d->arrived = 0;
}

unsigned play_watches(const struct play *d)
{
	return door_watches(d->vm[0].door);
}

static void count_one(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
}

unsigned play_leftovers(struct play *d)
{
	unsigned count = play_watches(d);

	xs_host_list(d->vm[0].xs, SF_XS_REPLY, count_one, &count);
	xs_host_list(d->vm[0].xs, SF_XS_REQUEST, count_one, &count);
	return count;
}

unsigned play_arrived(const struct play *d)
{
	return d->arrived;
}

size_t play_result(const struct play *d, unsigned vm, char *data, size_t room)
{
	size_t len = d->vm[vm].result_bytes;

	memcpy(data, d->vm[vm].result, len < room ? len : room);
	return len;
}
