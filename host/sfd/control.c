/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection of sfctl's: requests checked and passed to who can answer, streams passed through.
 */
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
#include "host/sfd/boot.h"
#include "host/sfd/export.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"
#include "host/sfd/listing.h"
#include "host/sfd/request.h"
#include "proto/control.h"

#define BACKLOG_BYTES  (1u << 20) /* of clones' output that sfctl has not read */
#define EXEC_MAX_BYTES (AGENT_MAX_FRAME - sizeof(struct agent_exec))

struct control_server {
	struct evconnlistener *listener;
	LIST_HEAD(, control) controls;
	LIST_HEAD(, goodbye) goodbyes;
};

/* A host that sent output of a clone, and gets leave for more when sfctl has read this. */
struct waiting_host {
	struct peer_request *request;
	STAILQ_ENTRY(waiting_host) entry;
};

struct control {
	struct daemon *daemon;
	struct link *link;
	STAILQ_HEAD(, waiting_host) hosts;
	LIST_ENTRY(control) entry;
};

/* A VM is on its end, and somebody waits until nothing of it is left. */
struct goodbye {
	struct control *control; /* NULL: he went away */
	json_t *request;
	LIST_ENTRY(goodbye) entry;
};

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

void control_data(struct control *c, uint32_t stream, unsigned channel, unsigned clone,
		  const void *bytes, size_t len)
{
	json_t *msg = json_pack("{ss sI si}", "ev", "data", "stream", (json_int_t)stream, "channel",
				(int)channel);

	if (clone)
		json_object_set_new(msg, "clone", json_integer((json_int_t)clone));
	link_send(c->link, msg, bytes, len);
}

void control_credit(struct control *c, uint32_t stream, unsigned channel, uint32_t bytes)
{
	link_send(c->link,
		  json_pack("{ss sI si sI}", "ev", "credit", "stream", (json_int_t)stream,
			    "channel", (int)channel, "bytes", (json_int_t)bytes),
		  NULL, 0);
}

void control_console(struct control *c, const char *vm, const void *bytes, size_t len)
{
	link_send(c->link, json_pack("{ss ss}", "ev", "console", "vm", vm), bytes, len);
}

void control_stored(struct control *c, uint32_t stream, int error)
{
	json_t *result = error ? json_string(link_errno_name(error)) : json_integer(0);

	link_send(c->link,
		  json_pack("{ss sI so}", "ev", "stored", "stream", (json_int_t)stream, "errno",
			    result),
		  NULL, 0);
}

void control_exited(struct control *c, uint32_t stream, int status)
{
	link_send(c->link,
		  json_pack("{ss sI si}", "ev", "exited", "stream", (json_int_t)stream, "status",
			    status),
		  NULL, 0);
}

static void let_hosts_go_on(struct control *c)
{
	struct waiting_host *w;

	while ((w = STAILQ_FIRST(&c->hosts))) {
		STAILQ_REMOVE_HEAD(&c->hosts, entry);
		peer_reply(w->request, NULL);
		free(w);
	}
}

void control_reply_when_read(struct control *c, struct peer_request *request)
{
	struct waiting_host *w =
		link_backlog(c->link) > BACKLOG_BYTES ? calloc(1, sizeof(*w)) : NULL;

	if (!w) {
		peer_reply(request, NULL);
		return;
	}
	w->request = request;
	STAILQ_INSERT_TAIL(&c->hosts, w, entry);
}

static void control_drained(void *arg, struct link *link)
{
	(void)link;
	let_hosts_go_on(arg);
}

/* ---- requests ---- */

static void op_hello(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct daemon *d = c->daemon;

	(void)bytes;
	(void)len;
	if (field_or(msg, "version", 0) != CONTROL_VERSION) {
		link_refuse(c->link, msg, -EPROTO, "this daemon speaks version %d",
			    CONTROL_VERSION);
		return;
	}
	link_reply(c->link, msg,
		   json_pack("{si ss ss ss si}", "version", CONTROL_VERSION, "cluster",
			     d->config.cluster, "host", d->self->name, "accel",
			     vmm_accel_name(d->config.accel), "hosts", (int)d->host_count),
		   NULL, 0);
}

static void op_boot(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	boot_serve(c->daemon, c, msg);
}

static void op_export(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	export_serve(c->daemon, c, msg);
}

/* The guest a request names and that is up; otherwise it was refused. */
static struct guest *named_guest(struct control *c, json_t *msg, const char *field)
{
	const char *id = json_string_value(json_object_get(msg, field));
	struct guest *g = id ? guest_find(c->daemon, id) : NULL;

	if (!g || !g->up) {
		link_refuse(c->link, msg, -ENOENT, "there is no VM %s on host %s",
			    id ? id : "without an id", c->daemon->self->name);
		return NULL;
	}
	return g;
}

/* Return: the number of a new stream, or 0 and the request was refused. */
static uint32_t begin_stream(struct control *c, struct guest *g, json_t *msg, bool command)
{
	uint32_t stream = stream_begin(g, c, command);

	if (!stream)
		link_refuse(c->link, msg, -EDQUOT,
			    "VM %s has too many commands and files under way", g->vm.family->name);
	return stream;
}

static void op_put(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");
	const char *path = field_text(msg, "path", "");
	struct agent_put put = { 0 };
	uint32_t stream;

	(void)bytes;
	(void)len;
	if (!g)
		return;
	if (*path != '/' || strlen(path) >= 4096 ||
	    !field_unsigned(msg, "mode", 0, UINT32_MAX, &put.mode) ||
	    !field_u64(msg, "length", 0, INT64_MAX, &put.length)) {
		link_refuse(c->link, msg, -EINVAL,
			    "put wants an absolute path, a mode and a length");
		return;
	}
	stream = begin_stream(c, g, msg, false);
	if (!stream)
		return;
	put.mode &= 07777;
	agent_port_send(g->vm.agent, AGENT_PUT, 0, stream, &put, sizeof(put), path,
			strlen(path) + 1);
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

	if (!json_is_array(argv) || !json_array_size(argv) ||
	    json_array_size(argv) > AGENT_MAX_ARGS)
		return false;
	json_array_foreach(argv, i, value) {
		if (!add_string(buf, used, json_string_value(value)))
			return false;
	}
	json_object_foreach(env, name, value) {
		const char *text = json_string_value(value);

		if (!text || strchr(name, '=') ||
		    snprintf(assignment, sizeof(assignment), "%s=%s", name, text) >=
			    (int)sizeof(assignment) ||
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
		link_refuse(c->link, msg, -EINVAL,
			    "the command, its environment or its folder make no sense, "
			    "or are over %zu bytes",
			    EXEC_MAX_BYTES);
		return;
	}
	stream = begin_stream(c, g, msg, true);
	if (!stream)
		return;
	agent_port_send(g->vm.agent, AGENT_EXEC, 0, stream, &head, sizeof(head), strings, used);
	link_reply(c->link, msg, json_pack("{sI}", "stream", (json_int_t)stream), NULL, 0);
}

/* The stream a message is about, if it is one of this connection; *guest has it. */
static struct stream *named_stream(struct control *c, json_t *msg, uint32_t *number,
				   struct guest **guest)
{
	struct guest *g;

	if (!field_unsigned(msg, "stream", 1, AGENT_STREAM_OF_AGENT - 1, number))
		return NULL;
	LIST_FOREACH(g, &c->daemon->guests, entry) {
		struct stream *s = stream_find(g, *number);

		*guest = g;
		if (s && stream_control(s) == c)
			return s;
	}
	return NULL;
}

static void op_data(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g;
	uint32_t stream;

	if (named_stream(c, msg, &stream, &g) && len <= AGENT_MAX_DATA)
		agent_port_send(g->vm.agent, AGENT_DATA, AGENT_STDIN, stream, bytes, len, NULL, 0);
}

static void op_credit(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	unsigned channel, amount;
	struct guest *g;
	uint32_t stream;
	struct stream *s = named_stream(c, msg, &stream, &g);

	(void)bytes;
	(void)len;
	/* credit for a clone's output is not the guest's: its own host gave it already */
	if (s && !json_object_get(msg, "clone") &&
	    field_unsigned(msg, "bytes", 1, AGENT_WINDOW, &amount) &&
	    field_unsigned(msg, "channel", AGENT_STDIN, AGENT_STDERR, &channel))
		stream_credit(s, channel, amount);
}

static void op_signal(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct agent_status status = { 0 };
	unsigned number;
	uint32_t stream;
	struct guest *g;

	(void)bytes;
	(void)len;
	if (!named_stream(c, msg, &stream, &g) ||
	    !field_unsigned(msg, "signal", 1, (unsigned)SIGRTMAX, &number)) {
		link_refuse(c->link, msg, -EINVAL, "no such stream or signal");
		return;
	}
	status.value = (int32_t)number;
	agent_port_send(g->vm.agent, AGENT_SIGNAL, 0, stream, &status, sizeof(status), NULL, 0);
	link_reply(c->link, msg, NULL, NULL, 0);
}

static void op_winsize(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct agent_winsize size = { 0 };
	uint32_t stream;
	struct guest *g;

	(void)bytes;
	(void)len;
	size.rows = (uint16_t)field_or(msg, "rows", 0);
	size.columns = (uint16_t)field_or(msg, "columns", 0);
	if (!named_stream(c, msg, &stream, &g)) {
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

/* Nothing is left of a VM that a request was to end. */
static void vm_gone(void *arg)
{
	struct goodbye *b = arg;

	if (b->control)
		link_reply(b->control->link, b->request, NULL, NULL, 0);
	LIST_REMOVE(b, entry);
	json_decref(b->request);
	free(b);
}

/* Ends a VM, and answers when it is gone. */
static void end_vm(struct control *c, json_t *msg, struct guest *g, const char *why)
{
	struct goodbye *b = calloc(1, sizeof(*b));

	if (!b) {
		link_refuse(c->link, msg, -ENOMEM, "out of memory");
		return;
	}
	b->control = c;
	b->request = json_incref(msg);
	LIST_INSERT_HEAD(&c->daemon->controls->goodbyes, b, entry);
	guest_destroy_then(g, why, vm_gone, b);
}

static void op_destroy(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	struct guest *g = named_guest(c, msg, "vm");

	(void)bytes;
	(void)len;
	if (g)
		end_vm(c, msg, g, g->owner == c ? NULL : "ended by another command");
}

/* The clone with this serial number, if it has not ended. Return: its ticket. */
static struct ticket *find_child(struct guest *g, unsigned serial, unsigned *id)
{
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		for (unsigned i = 0; t->state == TICKET_RUNNING && i < t->count; i++) {
			*id = i + 1;
			if (t->children[i].serial == serial && !t->children[i].ended)
				return t;
		}
	}
	return NULL;
}

/* "h1.3" is a VM of ours, "h1.3/5" a clone of it, 5 its serial number. */
static void op_kill(struct control *c, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *id = field_text(msg, "id", "without an id");
	size_t vm_len = strcspn(id, "/");
	_cleanup_free_ char *vm = strndup(id, vm_len);
	struct guest *g = vm ? guest_find(c->daemon, vm) : NULL;
	struct ticket *t = NULL;
	unsigned serial, child;

	(void)bytes;
	(void)len;
	if (g && !id[vm_len]) {
		end_vm(c, msg, g, "killed by the operator");
		return;
	}
	if (g && !request_number(id + vm_len + 1, 1, INT32_MAX, &serial))
		t = find_child(g, serial, &child);
	if (!t) {
		link_refuse(c->link, msg, -ENOENT,
			    "there is no VM or clone %.100s booted by host %s", id,
			    c->daemon->self->name);
		return;
	}
	ticket_kill(t, child);
	link_reply(c->link, msg, NULL, NULL, 0);
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
	{ "hello", op_hello },	   { "boot", op_boot },
	{ "put", op_put },	   { "exec", op_exec },
	{ "data", op_data },	   { "credit", op_credit },
	{ "signal", op_signal },   { "winsize", op_winsize },
	{ "watch", op_watch },	   { "record", op_record },
	{ "destroy", op_destroy }, { "kill", op_kill },
	{ "ps", op_ps },	   { "hosts", op_hosts },
	{ "show", op_show },	   { "export", op_export },
	{ "shutdown", op_shutdown },
};

static void control_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes,
			    size_t len)
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

/* The connection is over: nobody may tell it anything any more. */
static void control_free(struct control *c)
{
	struct goodbye *b;

	LIST_REMOVE(c, entry);
	LIST_FOREACH(b, &c->daemon->controls->goodbyes, entry) {
		if (b->control == c)
			b->control = NULL;
	}
	listing_link_lost(c->link);
	boot_control_lost(c);
	export_control_lost(c);
	guest_control_lost(c->daemon, c);
	let_hosts_go_on(c);
	free(c);
}

static void control_down(void *arg, struct link *link, int error, const char *why)
{
	(void)link;
	(void)error;
	(void)why;
	control_free(arg);
}

static const struct link_handler control_handler = {
	.message = control_message,
	.down = control_down,
	.drained = control_drained,
};

static void accepted(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
		     void *arg)
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
	STAILQ_INIT(&c->hosts);
	LIST_INSERT_HEAD(&d->controls->controls, c, entry);
}

static int socket_path(const struct daemon *d, struct sockaddr_un *at)
{
	int n = snprintf(at->sun_path, sizeof(at->sun_path), "%s/" CONTROL_SOCKET, d->config.dir);

	return n < (int)sizeof(at->sun_path) ? 0 : -ENAMETOOLONG;
}

int control_start(struct daemon *d, char why[WHY_BYTES])
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct control_server *server = calloc(1, sizeof(*server));
	int rc = server ? socket_path(d, &at) : -ENOMEM;
	mode_t mask;

	if (rc) {
		snprintf(why, WHY_BYTES, "no socket in the folder %s: %s", d->config.dir,
			 strerror(-rc));
		free(server);
		return rc;
	}
	d->controls = server;
	unlink(at.sun_path);
	mask = umask(0177);
	server->listener = evconnlistener_new_bind(d->base, accepted, d,
						   LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC,
						   16, (struct sockaddr *)&at, sizeof(at));
	rc = -errno;
	umask(mask);
	if (server->listener)
		return 0;
	snprintf(why, WHY_BYTES, "cannot listen on %s: %s", at.sun_path, strerror(-rc));
	return rc;
}

void control_stop(struct daemon *d)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct control *c;

	if (!d->controls || !d->controls->listener)
		return;
	evconnlistener_free(d->controls->listener);
	d->controls->listener = NULL;
	while ((c = LIST_FIRST(&d->controls->controls))) {
		struct link *link = c->link;

		control_free(c);
		link_close(link);
	}
	if (!socket_path(d, &at))
		unlink(at.sun_path);
}

void control_free_server(struct daemon *d)
{
	free(d->controls);
	d->controls = NULL;
}
