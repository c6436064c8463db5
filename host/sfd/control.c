/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection of sfctl's: requests checked and passed to who can answer, streams passed through. */
#define _GNU_SOURCE
#include "host/sfd/control.h"

#include <errno.h>
#include <limits.h>
#include <event2/event.h>
#include <event2/listener.h>
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
#include "common/log.h"
#include "host/sfd/guest.h"
#include "host/sfd/listing.h"
#include "proto/control.h"

#define EXEC_MAX_BYTES (AGENT_MAX_FRAME - sizeof(struct agent_exec))

struct control {
	struct daemon *daemon;
	struct link *link;
	LIST_ENTRY(control) entry;
};

static struct evconnlistener *listener;
static LIST_HEAD(, control) controls = LIST_HEAD_INITIALIZER(controls);

/* ---- out ---- */

void control_event(struct control *c, json_t *event)
{
	link_send(c->link, event, NULL, 0);
}

void control_reply(struct control *c, json_t *request, json_t *msg)
{
	if (c)
		link_reply(c->link, request, msg, NULL, 0);
	else
		json_decref(msg);
}

void control_refuse(struct control *c, json_t *request, int error, const char *format, ...)
{
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (c)
		link_refuse(c->link, request, error, "%s", why);
}

void control_data(struct control *c, uint32_t stream, unsigned channel, unsigned clone, const void *bytes,
		  size_t len)
{
	json_t *msg = json_pack("{ss sI si}", "ev", "data", "stream", (json_int_t)stream, "channel", (int)channel);

	if (clone)
		json_object_set_new(msg, "clone", json_integer((json_int_t)clone));
	link_send(c->link, msg, bytes, len);
}

void control_credit(struct control *c, uint32_t stream, unsigned channel, uint32_t bytes)
{
	link_send(c->link, json_pack("{ss sI si sI}", "ev", "credit", "stream", (json_int_t)stream, "channel",
				     (int)channel, "bytes", (json_int_t)bytes), NULL, 0);
}

void control_stored(struct control *c, uint32_t stream, int error)
{
	json_t *result = error ? json_string(link_errno_name(error)) : json_integer(0);

	link_send(c->link, json_pack("{ss sI so}", "ev", "stored", "stream", (json_int_t)stream, "errno", result),
		  NULL, 0);
}

void control_exited(struct control *c, uint32_t stream, int status)
{
	link_send(c->link, json_pack("{ss sI si}", "ev", "exited", "stream", (json_int_t)stream, "status", status),
		  NULL, 0);
}

/* ---- requests ---- */

static void op_hello(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct daemon *d = c->daemon;

	(void)bytes;
	(void)len;
	if (json_integer_value(json_object_get(msg, "version")) != CONTROL_VERSION) {
		link_refuse(c->link, msg, -EPROTO, "this daemon speaks version %d", CONTROL_VERSION);
		return;
	}
	link_reply(c->link, msg,
		   json_pack("{si ss ss ss si}", "version", CONTROL_VERSION, "cluster", d->config.cluster, "host",
			     d->self->name, "accel", vmm_accel_name(d->config.accel), "hosts", (int)d->host_count),
		   NULL, 0);
}

static void op_boot(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest_wish wish = { 0 };
	json_int_t mem_bytes = 0;
	char why[WHY_BYTES];
	int cpus = 0, rc;

	(void)bytes;
	(void)len;
	if (json_unpack(msg, "{sI si s?s s?s s?s}", "mem_bytes", &mem_bytes, "cpus", &cpus, "name", &wish.name,
			"kernel", &wish.kernel, "initrd", &wish.initrd) ||
	    cpus < 1 || cpus > 64 || mem_bytes < 64 << 20 || (uint64_t)mem_bytes > MEMTAP_MAX_RAM_BYTES) {
		link_refuse(c->link, msg, -EINVAL, "a VM has at least 64 MB and 1 to 64 CPUs");
		return;
	}
	wish.mem_bytes = (uint64_t)mem_bytes & ~((1ull << 20) - 1);
	wish.cpus = (unsigned)cpus;
	rc = guest_boot(c->daemon, &wish, c, msg, why);
	if (rc)
		link_refuse(c->link, msg, rc, "%s", why);
}

/* The guest a request names and that is up; otherwise it was refused. */
static struct guest *named_guest(struct control *c, json_t *msg, const char *field)
{
	const char *id = json_string_value(json_object_get(msg, field));
	struct guest *g = id ? guest_find(c->daemon, id) : NULL;

	if (!g || !g->up) {
		link_refuse(c->link, msg, -ENOENT, "there is no VM %s on host %s", id ? id : "without an id",
			    c->daemon->self->name);
		return NULL;
	}
	return g;
}

static void op_put(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");
	struct agent_put put = { 0 };
	json_int_t mode, length;
	const char *path;
	uint32_t stream;

	(void)bytes;
	(void)len;
	if (!g)
		return;
	if (json_unpack(msg, "{ss sI sI}", "path", &path, "mode", &mode, "length", &length) || *path != '/' ||
	    strlen(path) >= 4096 || length < 0) {
		link_refuse(c->link, msg, -EINVAL, "put wants an absolute path, a mode and a length");
		return;
	}
	stream = stream_begin(g, c, false);
	put.mode = (uint32_t)mode & 07777;
	put.length = (uint64_t)length;
	agent_port_send(g->vm.agent, AGENT_PUT, 0, stream, &put, sizeof(put), path, strlen(path) + 1);
	link_reply(c->link, msg, json_pack("{sI}", "stream", (json_int_t)stream), NULL, 0);
}

/* Appends a string with its zero byte. Return: false if there is no room. */
static bool add_string(char *buf, size_t *used, const char *text)
{
	size_t n = text ? strlen(text) + 1 : 0;

	if (!n || n > EXEC_MAX_BYTES - *used)
		return false;
	memcpy(buf + *used, text, n);
	*used += n;
	return true;
}

/* Packs argv, env and cwd behind the head. Return: false if they make no sense or are too long. */
static bool pack_exec(json_t *msg, struct agent_exec *head, char *buf, size_t *used)
{
	json_t *argv = json_object_get(msg, "argv"), *env = json_object_get(msg, "env"), *value;
	const char *cwd = json_string_value(json_object_get(msg, "cwd")), *name;
	json_t *tty = json_object_get(msg, "tty");
	char assignment[4096];
	size_t i;

	if (!json_is_array(argv) || !json_array_size(argv) || json_array_size(argv) > AGENT_MAX_ARGS)
		return false;
	json_array_foreach(argv, i, value) {
		if (!add_string(buf, used, json_string_value(value)))
			return false;
	}
	json_object_foreach(env, name, value) {
		const char *text = json_string_value(value);

		if (!text || strchr(name, '=') ||
		    snprintf(assignment, sizeof(assignment), "%s=%s", name, text) >= (int)sizeof(assignment) ||
		    !add_string(buf, used, assignment))
			return false;
	}
	head->argc = (uint16_t)json_array_size(argv);
	head->envc = (uint16_t)json_object_size(env);
	if (json_is_object(tty)) {
		head->flags = AGENT_EXEC_TTY;
		head->rows = (uint16_t)json_integer_value(json_object_get(tty, "rows"));
		head->columns = (uint16_t)json_integer_value(json_object_get(tty, "columns"));
	}
	return add_string(buf, used, cwd ? cwd : "/");
}

static void op_exec(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	_cleanup_free_ char *strings = malloc(EXEC_MAX_BYTES);
	struct guest *g = named_guest(c, msg, "vm");
	struct agent_exec head = { 0 };
	size_t used = 0;
	uint32_t stream;

	(void)bytes;
	(void)len;
	if (!g)
		return;
	if (!strings || !pack_exec(msg, &head, strings, &used)) {
		link_refuse(c->link, msg, -EINVAL, "the command, its environment or its folder make no sense, "
						   "or are over %zu bytes", EXEC_MAX_BYTES);
		return;
	}
	stream = stream_begin(g, c, true);
	agent_port_send(g->vm.agent, AGENT_EXEC, 0, stream, &head, sizeof(head), strings, used);
	link_reply(c->link, msg, json_pack("{sI}", "stream", (json_int_t)stream), NULL, 0);
}

/* The guest that has this stream of this connection. */
static struct guest *stream_guest(struct control *c, json_t *msg, uint32_t *number)
{
	json_int_t stream = json_integer_value(json_object_get(msg, "stream"));
	struct guest *g;

	*number = (uint32_t)stream;
	LIST_FOREACH(g, &c->daemon->guests, entry) {
		struct stream *s = stream_find(g, *number);

		if (s && stream_control(s) == c)
			return g;
	}
	return NULL;
}

static void op_data(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	uint32_t stream;
	struct guest *g = stream_guest(c, msg, &stream);

	if (g && len <= AGENT_MAX_DATA)
		agent_port_send(g->vm.agent, AGENT_DATA, AGENT_STDIN, stream, bytes, len, NULL, 0);
}

static void op_credit(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct agent_credit credit = { 0 };
	uint32_t stream;
	struct guest *g = stream_guest(c, msg, &stream);
	json_int_t amount = 0;
	int channel = 0;

	(void)bytes;
	(void)len;
	json_unpack(msg, "{sI si}", "bytes", &amount, "channel", &channel);
	credit.bytes = (uint32_t)amount;
	/* credit for a clone's output is not the guest's: its own host gave it already */
	if (g && !json_object_get(msg, "clone") && amount > 0 && amount <= AGENT_WINDOW)
		agent_port_send(g->vm.agent, AGENT_CREDIT, (unsigned)channel, stream, &credit, sizeof(credit), NULL, 0);
}

static void op_signal(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct agent_status status = { .value = (int32_t)json_integer_value(json_object_get(msg, "signal")) };
	uint32_t stream;
	struct guest *g = stream_guest(c, msg, &stream);

	(void)bytes;
	(void)len;
	if (!g || status.value < 1 || status.value > SIGRTMAX) {
		link_refuse(c->link, msg, -EINVAL, "no such stream or signal");
		return;
	}
	agent_port_send(g->vm.agent, AGENT_SIGNAL, 0, stream, &status, sizeof(status), NULL, 0);
	link_reply(c->link, msg, NULL, NULL, 0);
}

static void op_winsize(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct agent_winsize size = { 0 };
	uint32_t stream;
	struct guest *g = stream_guest(c, msg, &stream);

	(void)bytes;
	(void)len;
	size.rows = (uint16_t)json_integer_value(json_object_get(msg, "rows"));
	size.columns = (uint16_t)json_integer_value(json_object_get(msg, "columns"));
	if (!g) {
		link_refuse(c->link, msg, -EINVAL, "no such stream");
		return;
	}
	agent_port_send(g->vm.agent, AGENT_WINSIZE, 0, stream, &size, sizeof(size), NULL, 0);
	link_reply(c->link, msg, NULL, NULL, 0);
}

static void op_watch(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");

	(void)bytes;
	(void)len;
	if (!g)
		return;
	g->watcher = c;
	link_reply(c->link, msg, NULL, NULL, 0);
}

static void op_record(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");

	(void)bytes;
	(void)len;
	if (g)
		link_reply(c->link, msg, json_pack("{so}", "record", listing_record(g)), NULL, 0);
}

static void op_destroy(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");

	(void)bytes;
	(void)len;
	if (!g)
		return;
	guest_destroy(g);
	link_reply(c->link, msg, NULL, NULL, 0);
}

/* "h1.3" is a VM of ours, "h1.3/5" a clone of it, 5 its serial number. */
static void op_kill(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *id = json_string_value(json_object_get(msg, "id")), *slash = id ? strchr(id, '/') : NULL;
	char vm[128];
	struct guest *g;
	struct ticket *t;

	(void)bytes;
	(void)len;
	snprintf(vm, sizeof(vm), "%.*s", slash ? (int)(slash - id) : 120, id ? id : "");
	g = guest_find(c->daemon, vm);
	if (g && !slash) {
		if (g->owner && g->owner != c)
			control_event(g->owner, json_pack("{ss ss ss}", "ev", "lost", "vm", vm, "reason",
							  "killed by the operator"));
		guest_destroy(g);
		link_reply(c->link, msg, NULL, NULL, 0);
		return;
	}
	LIST_FOREACH(t, g ? &g->tickets : &(__typeof__(g->tickets)){ 0 }, entry) {
		for (unsigned i = 0; i < t->count; i++) {
			if (t->children[i].serial != strtoul(slash + 1, NULL, 10) || t->children[i].ended)
				continue;
			ticket_kill(t, i + 1);
			link_reply(c->link, msg, NULL, NULL, 0);
			return;
		}
	}
	link_refuse(c->link, msg, -ENOENT, "there is no VM or clone %s booted by host %s", id ? id : "",
		    c->daemon->self->name);
}

static void op_ps(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	listing_ps(c->daemon, c->link, msg);
}

static void op_hosts(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	listing_hosts(c->daemon, c->link, msg);
}

static void op_show(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	listing_show(c->daemon, c->link, msg);
}

static void op_shutdown(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	link_reply(c->link, msg, NULL, NULL, 0);
	daemon_stop(c->daemon);
}

static const struct control_op {
	const char *name;
	void (*serve)(struct control *c, json_t *msg, const uint8_t *bytes, size_t len);
} control_ops[] = {
	{ "hello", op_hello },	   { "boot", op_boot },	      { "put", op_put },	   { "exec", op_exec },
	{ "data", op_data },	   { "credit", op_credit },   { "signal", op_signal },	   { "winsize", op_winsize },
	{ "watch", op_watch },	   { "record", op_record },   { "destroy", op_destroy },   { "kill", op_kill },
	{ "ps", op_ps },	   { "hosts", op_hosts },     { "show", op_show },	   { "shutdown", op_shutdown },
};

static void control_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *op = json_string_value(json_object_get(msg, "op"));

	for (size_t i = 0; op && i < ARRAY_SIZE(control_ops); i++) {
		if (!strcmp(op, control_ops[i].name)) {
			control_ops[i].serve(arg, msg, bytes, len);
			return;
		}
	}
	link_refuse(link, msg, -EINVAL, "unknown request \"%s\"", op ? op : "");
}

static void control_down(void *arg, struct link *link, int error, const char *why)
{
	struct control *c = arg;

	(void)link;
	(void)error;
	(void)why;
	LIST_REMOVE(c, entry);
	listing_link_lost(c->link);
	guest_control_lost(c->daemon, c);
	free(c);
}

static const struct link_handler control_handler = { .message = control_message, .down = control_down };

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len, void *arg)
{
	struct control *c = calloc(1, sizeof(*c));
	struct daemon *d = arg;

	(void)l;
	(void)from;
	(void)len;
	if (c)
		c->link = link_from_fd(d->base, fd, &control_handler, c);
	if (!c || !c->link) {
		evutil_closesocket(fd);
		free(c);
		return;
	}
	c->daemon = d;
	LIST_INSERT_HEAD(&controls, c, entry);
}

int control_start(struct daemon *d, char why[WHY_BYTES])
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s/" CONTROL_SOCKET, d->config.dir);
	mode_t mask;

	if (n >= (int)sizeof(at.sun_path)) {
		snprintf(why, WHY_BYTES, "the folder's name is too long for a socket: %s", d->config.dir);
		return -ENAMETOOLONG;
	}
	unlink(at.sun_path);
	mask = umask(0177);
	listener = evconnlistener_new_bind(d->base, accepted, d, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 16,
					   (struct sockaddr *)&at, sizeof(at));
	umask(mask);
	if (!listener) {
		int rc = -errno;

		snprintf(why, WHY_BYTES, "cannot listen on %s: %s", at.sun_path, strerror(errno));
		return rc;
	}
	return 0;
}

void control_stop(struct daemon *d)
{
	struct control *c;
	char path[PATH_MAX];

	if (listener)
		evconnlistener_free(listener);
	listener = NULL;
	while ((c = LIST_FIRST(&controls))) {
		LIST_REMOVE(c, entry);
		link_close(c->link);
		free(c);
	}
	snprintf(path, sizeof(path), "%s/" CONTROL_SOCKET, d->config.dir);
	unlink(path);
}
