/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run: a VM from its boot to its end.
 *
 *   BOOT     the request is with the daemon                       → PUT, CONSOLE, DESTROY
 *   PUT      files go in                                          → COMMAND, DESTROY
 *   COMMAND  the command runs                                     → RECORD, DESTROY
 *   CONSOLE  instead, without an agent: its console is shown      → DESTROY
 *   RECORD   it ended; the record is asked for                    → DESTROY
 *   DESTROY  the VM is removed                                    → OVER
 *   OVER     nothing is left but output that waits to be written
 *
 * Trouble in any state is told once and goes to DESTROY. If this process dies, the daemon removes
 * the VM as the connection ends.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/client.h"
#include "host/sfctl/folder.h"
#include "host/sfctl/run.h"
#include "host/sfctl/sfctl.h"
#include "host/sfctl/text.h"

#define EXIT_INTERRUPTED 130
#define DESTROY_SECONDS 10 /* waited for the VM's end; it comes with the connection's end anyway   \
			    */

enum run_state { RUN_BOOT, RUN_PUT, RUN_COMMAND, RUN_CONSOLE, RUN_RECORD, RUN_DESTROY, RUN_OVER };

struct run {
	const struct run_options *options;
	enum run_state state;
	struct event_base *base;
	struct link *link; /* NULL: lost */
	struct run_io *io;
	struct run_put *put;
	struct forward *forward;
	struct run_progress *progress;
	char *vm;
	json_int_t stream; /* the command's; -1: none yet */
	int interrupts;	   /* SIGINTs that came */
	int status;	   /* what run will exit with */
};

static void run_destroy(struct run *run);

/* Nothing is left to do but to write what waits. */
static void run_over(struct run *run)
{
	run->state = RUN_OVER;
	if (!run_io_busy(run->io))
		event_base_loopbreak(run->base);
}

/* Says what went wrong, once, and ends. */
static void run_fail(struct run *run, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void run_fail(struct run *run, const char *format, ...)
{
	char why[512];
	va_list args;

	if (run->state >= RUN_DESTROY)
		return;
	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	run_io_stop(run->io, false);
	run_progress_settle(run->progress);
	complain("%s", why);
	run->status = EXIT_RUN_TROUBLE;
	run_destroy(run);
}

/* ── Requests, from the last to the first ── */

static void on_destroyed(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			 size_t len)
{
	struct run *run = arg;

	(void)msg;
	(void)bytes;
	(void)len;
	if (error && error != -ECONNRESET && error != -ENOENT)
		complain("the VM could not be removed: %s", why);
	run_over(run);
}

static void on_too_long(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;

	(void)fd;
	(void)what;
	if (run->state != RUN_DESTROY)
		return;
	complain("the daemon does not say that the VM is gone");
	run_over(run);
}

static void run_destroy(struct run *run)
{
	struct timeval limit = { .tv_sec = DESTROY_SECONDS };

	if (run->state >= RUN_DESTROY)
		return;
	run->state = RUN_DESTROY;
	run_progress_settle(run->progress);
	forward_stop(run->forward);
	run_io_stop(run->io, false);
	if (!run->link || !run->vm ||
	    link_call(run->link, json_pack("{s:s, s:s}", "op", "destroy", "vm", run->vm), NULL, 0,
		      on_destroyed, run))
		run_over(run);
	else
		event_base_once(run->base, -1, EV_TIMEOUT, on_too_long, run, &limit);
}

static void write_record(struct run *run, const json_t *record)
{
	_cleanup_free_ char *json = json_dumps(record, JSON_INDENT(2) | JSON_REAL_PRECISION(9)),
			    *text = NULL;
	int len =
		json ? asprintf(&text, "%s\n", json) : -1; /* NULL in *text if it fails, in glibc */
	int error =
		len < 0 ? -EPROTO : file_write(run->options->json_file, text, (size_t)len, 0644);

	if (!error)
		return;
	complain("cannot write the record to %s: %s", run->options->json_file, strerror(-error));
	run->status = EXIT_RUN_TROUBLE;
}

static void on_record(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	struct run *run = arg;

	(void)bytes;
	(void)len;
	if (error == -ECONNRESET || run->state != RUN_RECORD)
		return;
	if (error) {
		run_fail(run, "no record of the run: %s", why);
		return;
	}
	write_record(run, json_object_get(msg, "record"));
	run_destroy(run);
}

/* The command ended: keeps its status, and goes on to what is left. */
static void run_exited(struct run *run, int wait_status)
{
	run->status =
		WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
	run_io_stop(run->io, false);
	run->state = RUN_RECORD;
	if (!run->options->json_file)
		run_destroy(run);
	else
		link_call(run->link, json_pack("{s:s, s:s}", "op", "record", "vm", run->vm), NULL,
			  0, on_record, run);
}

static void on_exec(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		    size_t len)
{
	struct run *run = arg;

	(void)bytes;
	(void)len;
	if (error == -ECONNRESET || run->state != RUN_COMMAND)
		return;
	if (error) {
		run_fail(run, "cannot run the command: %s", why);
		return;
	}
	run->stream = json_integer_value(json_object_get(msg, "stream"));
	run_io_start(run->io, run->link, run->stream);
}

/* The ports lead to the VM from now on. */
static void publish(struct run *run)
{
	char text[128];

	forward_start(run->forward, run->link, run->vm, run->options->env);
	for (unsigned i = 0; forward_tell(run->forward, i, text, sizeof(text)); i++)
		run_progress_line(run->progress, "%s", text);
}

static void run_command(struct run *run)
{
	json_t *request = json_pack("{s:s, s:s, s:O, s:O, s:s, s:o}", "op", "exec", "vm", run->vm,
				    "argv", run->options->argv, "env", run->options->env, "cwd",
				    RUN_HOME, "tty", run_io_tty(run->io));

	run->state = RUN_COMMAND;
	link_call(run->link, request, NULL, 0, on_exec, run);
}

static void on_put_done(void *arg, int error)
{
	struct run *run = arg;

	if (run->state != RUN_PUT)
		return;
	if (!error) {
		publish(run);
		run_command(run);
		return;
	}
	run->status = EXIT_RUN_TROUBLE; /* it was told what is wrong */
	run_destroy(run);
}

static void on_watch(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		     size_t len)
{
	(void)msg;
	(void)bytes;
	(void)len;
	if (error && error != -ECONNRESET)
		run_fail(arg, "cannot watch the VM: %s", why);
}

static void on_booted(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
		      size_t len)
{
	struct run *run = arg;
	const char *vm = json_string_value(json_object_get(msg, "vm"));

	(void)bytes;
	(void)len;
	if (error == -ECONNRESET)
		return;
	if (error || !vm) {
		run_fail(run, "cannot boot the VM: %s",
			 error ? why : "the daemon's answer has no ID");
		return;
	}
	run->vm = strdup(vm);
	link_call(run->link, json_pack("{s:s, s:s}", "op", "watch", "vm", vm), NULL, 0, on_watch,
		  run);
	if (run->options->no_agent) {
		run->state = RUN_CONSOLE;
		return;
	}
	run->state = RUN_PUT;
	run->put = run_put_new(&run->options->puts, run->link, run->vm, on_put_done, run);
	if (run->put)
		run_put_start(run->put);
	else
		run_fail(run, "no memory");
}

static void run_boot(struct run *run)
{
	const struct run_options *o = run->options;
	json_t *request = json_pack("{s:s, s:I, s:i}", "op", "boot", "mem_bytes",
				    (json_int_t)o->mem_bytes, "cpus", (int)o->cpus);

	if (o->ipv6)
		json_object_set_new(request, "ipv6", json_true());
	if (o->name)
		json_object_set_new(request, "name", json_string(o->name));
	if (o->kernel)
		json_object_set_new(request, "kernel", json_string(o->kernel));
	if (o->initrd)
		json_object_set_new(request, "initrd", json_string(o->initrd));
	if (o->append)
		json_object_set_new(request, "append", json_string(o->append));
	if (json_array_size(o->images))
		json_object_set(request, "images", o->images);
	if (o->no_agent)
		json_object_set_new(request, "agent", json_false());
	link_call(run->link, request, NULL, 0, on_booted, run);
}

/* ── Events ── */

static void event_data(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	json_int_t stream = json_integer_value(json_object_get(msg, "stream"));
	int channel = (int)json_integer_value(json_object_get(msg, "channel"));
	int clone = (int)json_integer_value(json_object_get(msg, "clone"));

	if (stream == run->stream)
		run_io_data(run->io, channel, clone, bytes, len);
	else if (!clone) /* a clone has a connection's processes too, but not its other end */
		forward_data(run->forward, stream, channel, bytes, len);
}

static void event_credit(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	json_int_t stream = json_integer_value(json_object_get(msg, "stream"));
	json_int_t room = json_integer_value(json_object_get(msg, "bytes"));

	(void)bytes;
	(void)len;
	if (room <= 0)
		return;
	if (stream == run->stream)
		run_io_credit(run->io, (size_t)room);
	else if (run->state == RUN_PUT)
		run_put_credit(run->put, stream, (size_t)room);
	else
		forward_credit(run->forward, stream, (size_t)room);
}

static void event_stored(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	if (run->state == RUN_PUT)
		run_put_stored(run->put, json_integer_value(json_object_get(msg, "stream")),
			       json_object_get(msg, "errno"));
}

static void event_exited(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	json_int_t stream = json_integer_value(json_object_get(msg, "stream"));

	(void)bytes;
	(void)len;
	if (run->state != RUN_COMMAND || json_object_get(msg, "clone"))
		return;
	if (stream == run->stream)
		run_exited(run, (int)json_integer_value(json_object_get(msg, "status")));
	else
		forward_exited(run->forward, stream);
}

static void event_progress(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	run_progress_event(run->progress, msg);
}

/* It is seen from the first line on, before the answer to the boot. */
static void event_console(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)msg;
	if (run->state < RUN_RECORD)
		run_io_data(run->io, 1, 0, bytes, len);
}

static void event_lost(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *reason = json_string_value(json_object_get(msg, "reason"));

	(void)bytes;
	(void)len;
	/* vmm's words for a guest that switched itself off: without a command, a good end */
	if (run->state == RUN_CONSOLE && reason && strstr(reason, "(guest-shutdown)")) {
		run->status = 0;
		run_destroy(run);
		return;
	}
	run_fail(run, "the VM ended: %s", reason ? reason : "the daemon does not know why");
}

static const struct {
	const char *name;
	void (*handle)(struct run *run, const json_t *msg, const uint8_t *bytes, size_t len);
} events[] = {
	{ "data", event_data },	    { "credit", event_credit }, { "stored", event_stored },
	{ "exited", event_exited }, { "boot", event_progress }, { "clone", event_progress },
	{ "lost", event_lost },	    { "console", event_console },
};

static void on_message(void *arg, struct link *link, json_t *msg, const uint8_t *bytes, size_t len)
{
	const char *name = json_string_value(json_object_get(msg, "ev"));

	(void)link;
	for (unsigned i = 0; name && i < ARRAY_SIZE(events); i++) {
		if (!strcmp(events[i].name, name))
			events[i].handle(arg, msg, bytes, len);
	}
}

static void on_down(void *arg, struct link *link, int error, const char *why)
{
	struct run *run = arg;

	(void)link;
	run_io_unlink(run->io);
	forward_stop(run->forward);
	run->link = NULL;
	if (run->state < RUN_DESTROY)
		run_fail(run, error ? "the daemon was lost: %s" : "the daemon ended the connection",
			 why);
	else if (run->state == RUN_DESTROY)
		run_over(run);
}

/* ── This end ── */

/* Ends the VM, whatever it does. While it boots, that is what the connection's end does. */
static void run_interrupt(struct run *run)
{
	run->status = EXIT_INTERRUPTED;
	run_io_stop(run->io, true);
	if (run->state >= RUN_DESTROY)
		event_base_loopbreak(run->base);
	else
		run_destroy(run);
}

/* The command may have ended just before: then there is nothing to do. */
static void on_signalled(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes,
			 size_t len)
{
	(void)arg;
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
}

static void on_signal(void *arg, int signal)
{
	struct run *run = arg;

	if (signal == SIGINT && !run->interrupts++ && run->state == RUN_COMMAND && run->stream >= 0)
		link_call(run->link,
			  json_pack("{s:s, s:I, s:i}", "op", "signal", "stream", run->stream,
				    "signal", SIGINT),
			  NULL, 0, on_signalled, run);
	else
		run_interrupt(run);
}

static void on_drained(void *arg)
{
	struct run *run = arg;

	if (run->state == RUN_OVER)
		event_base_loopbreak(run->base);
}

static int run_vm(const struct run_options *options)
{
	static const struct link_handler handler = { .message = on_message, .down = on_down };
	struct run run = { .options = options, .stream = -1, .status = EXIT_RUN_TROUBLE };
	const struct run_io_handler io_handler = { .signal = on_signal,
						   .drained = on_drained,
						   .arg = &run };
	char host[HOST_NAME_BYTES];

	run.base = event_base_new();
	run.io = run.base ? run_io_new(run.base, options, &io_handler) : NULL;
	run.progress = run.base ? run_progress_new(options, run.base) : NULL;
	run.forward = run.base ? forward_new(run.base, &options->publish) : NULL;
	if (!run.io || !run.progress)
		complain("no memory");
	else if (run.forward)
		run.link = client_connect(run.base, options->cluster, options->host, &handler, &run,
					  host, sizeof(host));
	if (run.link) {
		run_boot(&run);
		event_base_dispatch(run.base);
	}
	if (run.io)
		run_io_unlink(run.io);
	link_close(run.link);
	run_put_free(run.put);
	forward_free(run.forward);
	run_io_free(run.io);
	run_progress_free(run.progress);
	free(run.vm);
	if (run.base)
		event_base_free(run.base);
	return run.status;
}

int cmd_run(struct sfctl *ctl, int argc, char **argv)
{
	struct run_options options;
	int status = EXIT_RUN_TROUBLE;

	if (!run_options_parse(&options, ctl->cluster, argc, argv))
		status = run_vm(&options);
	run_options_fini(&options);
	return status;
}
