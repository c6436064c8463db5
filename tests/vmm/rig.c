/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Everything around a VM under test. */
#define _GNU_SOURCE
#include "tests/vmm/rig.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define TEST_UID 65534	/* nobody */

int rig_memfd(uint64_t bytes)
{
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes)) {
		perror("memfd");
		exit(1);
	}
	return fd;
}

static void on_expired(evutil_socket_t fd, short what, void *arg)
{
	bool *expired = arg;

	(void)fd, (void)what;
	*expired = true;
}

/* Runs the event loop until `reached` says so, the machine's end, or the limit. */
static bool run_until(struct event_base *base, struct machine *m, unsigned limit_ms,
		      bool (*reached)(const struct machine *m, const void *what), const void *what)
{
	struct timeval limit = { .tv_sec = limit_ms / 1000, .tv_usec = limit_ms % 1000 * 1000 };
	bool expired = false;
	struct event *timer = event_new(base, -1, 0, on_expired, &expired);

	event_add(timer, &limit);
	while (!expired && !(m && m->ended) && !reached(m, what))
		event_base_loop(base, EVLOOP_ONCE);
	event_free(timer);
	return reached(m, what);
}

static bool never(const struct machine *m, const void *what)
{
	(void)m, (void)what;
	return false;
}

static bool flag_set(const struct machine *m, const void *what)
{
	(void)m;
	return *(const bool *)what;
}

static bool text_printed(const struct machine *m, const void *what)
{
	return strstr(m->text, what);
}

void rig_run_ms(struct event_base *base, unsigned ms)
{
	run_until(base, NULL, ms, never, NULL);
}

static void on_console(evutil_socket_t fd, short what, void *arg)
{
	struct machine *m = arg;
	char *new = m->text + m->text_len;
	ssize_t got = read(fd, new, sizeof(m->text) - m->text_len - 1);

	(void)what;
	if (got <= 0) {
		event_del(m->readable);
		return;
	}
	/* Text is searched as a string. */
	for (ssize_t i = 0; i < got; i++) {
		if (new[i])
			m->text[m->text_len++] = new[i];
	}
	m->text[m->text_len] = 0;
}

static void on_ram_mapped(void *arg, int uffd, uint64_t base, uint64_t length_bytes)
{
	struct machine *m = arg;

	(void)length_bytes;
	m->uffd = uffd;
	m->ram_base = base;
	vmm_ram_accept(m->vmm, !m->refuse_ram);
}

static void on_ready(void *arg)
{
	struct machine *m = arg;

	m->ready = true;
}

static void on_doorbell(void *arg)
{
	struct machine *m = arg;

	m->rung = true;
}

static void on_ended(void *arg, const char *why)
{
	struct machine *m = arg;

	m->ended = true;
	snprintf(m->why, sizeof(m->why), "%s", why);
}

void machine_done(void *arg, int error, const char *why)
{
	struct machine *m = arg;

	m->done = true;
	m->done_ns = io_now_ns();
	m->error = error;
	snprintf(m->why, sizeof(m->why), "%s", why);
}

static const struct vmm_events vm_events = { on_ram_mapped, on_ready, on_doorbell, on_ended };

int machine_start(struct machine *m, const struct rig *rig, const char *name, int ram_fd,
		  uint64_t ram_bytes, unsigned cpus, bool clone)
{
	int console[2], xenstore[2], agent[2];
	struct vmm_config config = {
		.name = name, .shim = rig->shim, .accel = rig->accel, .ram_bytes = ram_bytes,
		.cpus = cpus, .uid = TEST_UID, .kernel = rig->kernel, .initrd = rig->initrd,
		.cmdline = rig->cmdline, .clone = clone, .ram_fd = ram_fd,
		.mac = { 2, 0, 0, 0, 0, 1 }, .window_fd = m->window_fd,
		.window_offset = m->window_offset, .window_bytes = m->window_bytes,
	};
	bool refuse_ram = m->refuse_ram;
	int ret;

	*m = (struct machine){ .base = rig->base, .uffd = -1, .refuse_ram = refuse_ram };
	snprintf(m->name, sizeof(m->name), "%s", name);
	if (!config.window_fd)
		config.window_fd = -1;
	ret = tap_open(&m->tap, name);
	if (ret) {
		fprintf(stderr, "tap %s: %s\n", name, strerror(-ret));
		exit(1);
	}
	config.tap_fd = m->tap.fd;
	if (pipe2(console, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, xenstore)) {
		perror("machine_start");
		exit(1);
	}
	m->console = console[0];
	m->xenstore = xenstore[0];
	m->agent = agent[0];
	config.console_fd = console[1];
	config.xenstore_fd = xenstore[1];
	config.agent_fd = agent[1];
	m->readable = event_new(rig->base, console[0], EV_READ | EV_PERSIST, on_console, m);
	event_add(m->readable, NULL);
	ret = vmm_start(rig->base, &config, &vm_events, m, &m->vmm, m->why, sizeof(m->why));
	close(console[1]);
	close(xenstore[1]);
	close(agent[1]);
	return ret;
}

void machine_stop(struct machine *m)
{
	vmm_destroy(m->vmm);
	m->vmm = NULL;
	event_free(m->readable);
	close(m->console);
	close(m->xenstore);
	close(m->agent);
	tap_close(&m->tap);
	cleanup_close(&m->uffd);
}

bool machine_await(struct machine *m, const bool *flag, unsigned limit_ms)
{
	return run_until(m->base, m, limit_ms, flag_set, flag);
}

bool machine_await_text(struct machine *m, const char *text, unsigned limit_ms)
{
	return run_until(m->base, m, limit_ms, text_printed, text);
}

static int await_done(struct machine *m, int ret)
{
	if (ret)
		return ret;
	if (!machine_await(m, &m->done, 20000))
		return m->ended ? -EPIPE : -ETIMEDOUT;
	return m->error;
}

int machine_save(struct machine *m, int fd)
{
	m->done = false;
	return await_done(m, vmm_save(m->vmm, fd, machine_done, m));
}

int machine_cont(struct machine *m)
{
	m->done = false;
	return await_done(m, vmm_cont(m->vmm, machine_done, m));
}

int machine_load(struct machine *m, int fd)
{
	m->done = false;
	return await_done(m, vmm_load(m->vmm, fd, machine_done, m));
}
