/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Saving and loading device state: the order of commands, and what each event means in it. */
#define _GNU_SOURCE
#include "host/vmm/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/vmm/qmp.h"

/* The name under which QEMU keeps the descriptor's file from getfd until it is used. */
#define FD_NAME "descriptor"

/* Opens the file behind `fd` anew, with a position of its own. Return: a descriptor, or -errno. */
static int open_again(int fd)
{
	char path[32];
	int own;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	own = open(path, O_RDWR | O_CLOEXEC);
	return own < 0 ? -errno : own;
}

int descriptor_prepare(struct descriptor *d)
{
	json_t *capabilities = json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities",
					 "capability", "x-ignore-shared", "state", 1,
					 "capability", "events", "state", 1);
	/* announce-rounds: a clone that wakes up must not call out its parent's address. */
	json_t *parameters = json_pack("{s:I, s:i}", "max-bandwidth", (json_int_t)1 << 40,
				       "announce-rounds", 0);
	int ret = qmp_call(d->qmp, "migrate-set-capabilities", capabilities, -1, NULL, NULL);
	int ret2 = qmp_call(d->qmp, "migrate-set-parameters", parameters, -1, NULL, NULL);

	return ret ? ret : ret2;
}

/* The last thing to touch `d`: its owner may free it in the callback. */
static void finish(struct descriptor *d, int error, const char *why)
{
	vmm_done *done = steal_ptr(&d->done);
	char sentence[sizeof(d->why)];

	snprintf(sentence, sizeof(sentence), "%s", error ? why : "");
	d->stage = DESCRIPTOR_IDLE;
	if (done)
		done(d->arg, error, sentence);
}

/* One save or load at a time makes it sure that an answer belongs to what is under way. */
static void begin(struct descriptor *d, enum descriptor_stage stage, vmm_done *done, void *arg)
{
	d->stage = stage;
	d->done = done;
	d->arg = arg;
	snprintf(d->why, sizeof(d->why), "QEMU gave no reason");
}

static void on_status(void *arg, int error, const char *why, const json_t *ret);

static void ask_status(struct descriptor *d)
{
	if (qmp_call(d->qmp, "query-status", NULL, -1, on_status, d))
		finish(d, -ENOMEM, "out of memory");
}

static void on_continued(void *arg, int error, const char *why, const json_t *ret)
{
	struct descriptor *d = arg;

	(void)ret;
	finish(d, -EIO, error ? why : d->why);
}

static void let_run(struct descriptor *d)
{
	if (qmp_call(d->qmp, "cont", NULL, -1, on_continued, d))
		finish(d, -ENOMEM, "out of memory");
}

/*
 * QEMU reports a migration's end before it has left the state "finish-migrate", in which it can
 * not continue; the way from there is a few microseconds of another of its threads.
 */
static void on_status(void *arg, int error, const char *why, const json_t *ret)
{
	struct descriptor *d = arg;
	const char *status = json_string_value(json_object_get(ret, "status"));

	if (error || !status) {
		finish(d, error ? error : -EPROTO, error ? why : "QEMU has no status");
	} else if (!strcmp(status, "finish-migrate")) {
		ask_status(d);
	} else if (d->stage == DESCRIPTOR_UNDOING) {
		if (strcmp(status, "running"))
			let_run(d);
		else
			finish(d, -EIO, d->why);
	} else if (!strcmp(status, "postmigrate")) {
		d->times.saved_ns = io_now_ns();
		finish(d, 0, "");
	} else {
		snprintf(d->why, sizeof(d->why), "QEMU is \"%.32s\" after saving", status);
		finish(d, -EPROTO, d->why);
	}
}

static void on_failure_explained(void *arg, int error, const char *why, const json_t *ret)
{
	struct descriptor *d = arg;
	const char *reason = json_string_value(json_object_get(ret, "error-desc"));

	if (error) {
		finish(d, error, why);
		return;
	}
	if (reason)
		snprintf(d->why, sizeof(d->why), "QEMU could not save the VM: %s", reason);
	else
		snprintf(d->why, sizeof(d->why), "QEMU could not write the VM's state");
	ask_status(d);
}

static void on_accepted(void *arg, int error, const char *why, const json_t *ret)
{
	struct descriptor *d = arg;

	(void)ret;
	/* A refusal may come with the event "failed", which then has begun to see to the rest. */
	if (error && (d->stage == DESCRIPTOR_SAVING || d->stage == DESCRIPTOR_LOADING))
		finish(d, error, why);
}

/* Hands QEMU the file and the command that uses it, in one go. */
static int start(struct descriptor *d, int fd, const char *command)
{
	int ret = qmp_call(d->qmp, "getfd", json_pack("{s:s}", "fdname", FD_NAME), fd, NULL, NULL);

	if (!ret)
		ret = qmp_call(d->qmp, command, json_pack("{s:s}", "uri", "fd:" FD_NAME), -1,
			       on_accepted, d);
	if (ret)
		d->stage = DESCRIPTOR_IDLE;
	return ret;
}

int descriptor_save(struct descriptor *d, int fd, vmm_done *done, void *arg)
{
	_cleanup_fd_ int own = open_again(fd);

	if (own < 0)
		return own;
	if (ftruncate(own, 0))
		return -errno;
	begin(d, DESCRIPTOR_SAVING, done, arg);
	d->times = (struct vmm_times){ .stop_ns = io_now_ns() };
	return start(d, own, "migrate");
}

int descriptor_load(struct descriptor *d, int fd, vmm_done *done, void *arg)
{
	_cleanup_fd_ int own = open_again(fd);

	if (own < 0)
		return own;
	begin(d, DESCRIPTOR_LOADING, done, arg);
	return start(d, own, "migrate-incoming");
}

static void save_ended(struct descriptor *d, const char *status)
{
	if (!strcmp(status, "completed")) {
		d->stage = DESCRIPTOR_SETTLING;
		ask_status(d);
	} else if (!strcmp(status, "failed") || !strcmp(status, "cancelled")) {
		d->stage = DESCRIPTOR_UNDOING;
		if (qmp_call(d->qmp, "query-migrate", NULL, -1, on_failure_explained, d))
			finish(d, -ENOMEM, "out of memory");
	}
}

void descriptor_event(struct descriptor *d, const char *name, const json_t *data)
{
	const char *status = json_string_value(json_object_get(data, "status"));

	if (!strcmp(name, "STOP") && d->stage == DESCRIPTOR_SAVING) {
		d->times.stopped_ns = io_now_ns();
	} else if (!strcmp(name, "RESUME")) {
		d->times.running_ns = io_now_ns();
		if (d->stage == DESCRIPTOR_LOADING)
			finish(d, 0, "");
	} else if (!strcmp(name, "MIGRATION") && d->stage == DESCRIPTOR_SAVING && status) {
		save_ended(d, status);
	}
}

void descriptor_abort(struct descriptor *d, const char *why)
{
	if (d->stage != DESCRIPTOR_IDLE)
		finish(d, -EPIPE, why);
}
