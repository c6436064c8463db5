/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run: a line on standard error for what happens to the VM and its clones. While a VM boots
 * for long there is one more on a terminal, that is written anew each second and then gone.
 */
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfctl/run.h"
#include "host/sfctl/text.h"

#define LINE_BYTES 512

struct run_progress {
	bool on;
	const char *newline; /* a terminal in raw mode wants both */
	uint64_t begin_ns;
	json_t *running_ms; /* "op.id" → when its vCPUs ran */
	struct event *tick; /* NULL: not on this terminal */
	const char *awaited;
	char vm[64];
	bool passing; /* a line is there that does not stay */
};

#define PASSING_AFTER_MS 2000

/* Takes the line away that does not stay. */
static void clear_passing(struct run_progress *progress)
{
	if (progress->passing)
		fputs("\r\033[K", stderr);
	progress->passing = false;
}

/* Names and reasons come from elsewhere: nothing in them may steer the terminal. */
static void tame(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = '?';
	}
}

static double since_begin_ms(const struct run_progress *progress)
{
	return (double)(io_now_ns() - progress->begin_ns) / 1e6;
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct run_progress *progress = arg;
	char since[TEXT_BYTES];
	double ms = since_begin_ms(progress);

	(void)fd;
	(void)what;
	if (ms < PASSING_AFTER_MS)
		return;
	clear_passing(progress);
	fprintf(stderr, "%s%s: waiting for %s, %s", *progress->vm ? "VM " : "boot", progress->vm,
		progress->awaited, span_text(ms, since));
	progress->passing = true;
}

struct run_progress *run_progress_new(const struct run_options *options, struct event_base *base)
{
	static const struct timeval each = { 1, 0 };
	struct run_progress *progress = calloc(1, sizeof(*progress));
	bool terminal = isatty(STDERR_FILENO);

	if (!progress)
		return NULL;
	progress->on = !options->quiet && (options->progress || terminal);
	progress->newline = options->tty && terminal ? "\r\n" : "\n";
	progress->begin_ns = io_now_ns();
	progress->running_ms = json_object();
	progress->awaited = json_array_size(options->images) ? "its images" : "the daemon";
	if (progress->on && terminal && !options->no_agent)
		progress->tick = event_new(base, -1, EV_PERSIST, on_tick, progress);
	if (progress->tick)
		event_add(progress->tick, &each);
	return progress;
}

void run_progress_settle(struct run_progress *progress)
{
	if (!progress)
		return;
	if (progress->tick)
		event_free(progress->tick);
	progress->tick = NULL;
	clear_passing(progress);
}

void run_progress_free(struct run_progress *progress)
{
	if (!progress)
		return;
	run_progress_settle(progress);
	json_decref(progress->running_ms);
	free(progress);
}

void run_progress_line(struct run_progress *progress, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list args;

	if (!progress->on)
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	tame(line);
	clear_passing(progress);
	fprintf(stderr, "%s%s", line, progress->newline);
}

static const char *word(const json_t *event, const char *key)
{
	const char *text = json_string_value(json_object_get(event, key));

	return text ? text : "?";
}

static json_int_t number(const json_t *event, const char *key)
{
	return json_integer_value(json_object_get(event, key));
}

static const char *span(const json_t *event, const char *key, char buf[TEXT_BYTES])
{
	return span_text(json_number_value(json_object_get(event, key)), buf);
}

/* The key of a clone in running_ms. */
static void clone_key(const json_t *event, char key[64])
{
	snprintf(key, 64, "%lld.%lld", (long long)number(event, "op"),
		 (long long)number(event, "id"));
}

static void tell_ticket(struct run_progress *progress, const json_t *event)
{
	char places[LINE_BYTES / 2] = "", ms[TEXT_BYTES];
	size_t used = 0;
	const char *host;
	json_t *count;

	json_object_foreach (json_object_get(event, "hosts"), host, count) {
		if (used < sizeof(places))
			used += (size_t)snprintf(places + used, sizeof(places) - used,
						 "%s%lld on %s", used ? ", " : "",
						 (long long)json_integer_value(count), host);
	}
	run_progress_line(progress, "ticket for %lld of %lld clones after %s: %s",
			  (long long)number(event, "granted"), (long long)number(event, "n"),
			  span(event, "ms", ms), *places ? places : "nowhere");
}

static void tell_cloned(struct run_progress *progress, const json_t *event)
{
	char ms[TEXT_BYTES], bytes[TEXT_BYTES], disk_ms[TEXT_BYTES], disks[TEXT_BYTES + 32] = "";

	if (json_is_number(json_object_get(event, "disk_ms")))
		snprintf(disks, sizeof(disks), ", disks frozen within %s",
			 span(event, "disk_ms", disk_ms));
	run_progress_line(progress, "cloned: parent paused for %s, descriptor %s%s",
			  span(event, "pause_ms", ms),
			  size_text((uint64_t)number(event, "descriptor_bytes"), bytes), disks);
}

/* Told together with "answered", or with the end if it never answers. */
static void tell_running(struct run_progress *progress, const json_t *event)
{
	char key[64];

	clone_key(event, key);
	json_object_set(progress->running_ms, key, json_object_get(event, "ms"));
}

static void tell_answered(struct run_progress *progress, const json_t *event)
{
	char key[64], running[TEXT_BYTES], answered[TEXT_BYTES];
	json_t *ms;

	clone_key(event, key);
	ms = json_object_get(progress->running_ms, key);
	run_progress_line(progress, "clone %lld on %s: running %s, answered %s",
			  (long long)number(event, "id"), word(event, "host"),
			  ms ? span_text(json_number_value(ms), running) : "?",
			  span(event, "ms", answered));
	json_object_del(progress->running_ms, key);
}

static void tell_ended(struct run_progress *progress, const json_t *event)
{
	char end[LINE_BYTES / 2], key[64], bytes[TEXT_BYTES];

	if (!strcmp(word(event, "state"), "exited"))
		snprintf(end, sizeof(end), "exited with %lld", (long long)number(event, "status"));
	else
		snprintf(end, sizeof(end), "%s: %s", word(event, "state"), word(event, "reason"));
	clone_key(event, key);
	json_object_del(progress->running_ms, key);
	run_progress_line(
		progress, "clone %lld on %s: %s; %lld page faults, %lld pages (%s) fetched",
		(long long)number(event, "id"), word(event, "host"), end,
		(long long)number(event, "faults"), (long long)number(event, "pages_fetched"),
		size_text((uint64_t)number(event, "bytes_fetched"), bytes));
}

static void tell_joined(struct run_progress *progress, const json_t *event)
{
	char ms[TEXT_BYTES];

	run_progress_line(progress, "joined %s after the last one ended",
			  span(event, "join_ms", ms));
}

static void tell_image(struct run_progress *progress, const json_t *event)
{
	run_progress_line(progress, "image %s: unpacked %lld %%", word(event, "path"),
			  (long long)number(event, "percent"));
}

static void tell_starting(struct run_progress *progress, const json_t *event)
{
	run_progress_line(progress, "VM %s: starting", word(event, "vm"));
	snprintf(progress->vm, sizeof(progress->vm), "%s", word(event, "vm"));
	tame(progress->vm);
	progress->awaited = "QEMU";
}

static void tell_kernel(struct run_progress *progress, const json_t *event)
{
	(void)event;
	progress->awaited = "its kernel and agent";
}

static void tell_agent(struct run_progress *progress, const json_t *event)
{
	char since[TEXT_BYTES];

	run_progress_settle(progress);
	run_progress_line(progress, "VM %s: up after %s", word(event, "vm"),
			  span_text(since_begin_ms(progress), since));
}

struct step {
	const char *name;
	void (*tell)(struct run_progress *progress, const json_t *event);
};

static const struct step boot_steps[] = {
	{ "image", tell_image },
	{ "starting", tell_starting },
	{ "kernel", tell_kernel },
	{ "agent", tell_agent },
	{ 0 },
};

static const struct step clone_steps[] = {
	{ "ticket", tell_ticket },     { "cloned", tell_cloned }, { "running", tell_running },
	{ "answered", tell_answered }, { "ended", tell_ended },	  { "joined", tell_joined },
	{ 0 },
};

void run_progress_event(struct run_progress *progress, const json_t *event)
{
	const struct step *step = strcmp(word(event, "ev"), "boot") ? clone_steps : boot_steps;

	for (; step->name; step++) {
		if (!strcmp(word(event, "step"), step->name))
			step->tell(progress, event);
	}
}
