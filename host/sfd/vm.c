/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Wires a QEMU to its port, its XenStore and its agent. */
#define _GNU_SOURCE
#include "host/sfd/vm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/export.h"
#include "host/sfd/image.h"
#include "host/sfd/paths.h"
#include "host/sfd/request.h"
#include "host/sfd/window.h"
#include "proto/agent-socket.h"
#include "proto/xenstore-tree.h"

#define XS_BACKLOG_BYTES (1u << 20) /* waiting for a guest that does not read */
#define REQUESTS_PER_S	 500	    /* of libsf's, served */
#define CLOSED_LIMIT_S	 2	    /* from the end of a channel to that of QEMU */
#define LOGGED_PER_S	 20	    /* refusals, in the log */
#define MAX_REPLIES	 256 /* that the guest has not removed yet: they are memory of ours */

void vm_fail(struct vm *vm, const char *why)
{
	if (vm->ended)
		return;
	vm->ended = true;
	vm->kind->ended(vm, why);
}

/* ---- QEMU ---- */

static void vmm_ram_mapped(void *arg, int uffd, uint64_t base, uint64_t length_bytes)
{
	struct vm *vm = arg;

	if (length_bytes != vm->family->ram_bytes) {
		log_err("vm %s: QEMU mapped %llu bytes", vm->name,
			(unsigned long long)length_bytes);
		close(uffd);
		vmm_ram_accept(vm->vmm, false);
		return;
	}
	vm->kind->ram_mapped(vm, uffd, base);
}

static void vmm_ready(void *arg)
{
	struct vm *vm = arg;

	vm->kind->ready(vm);
}

static void vmm_ended(void *arg, const char *why)
{
	vm_fail(arg, why);
}

static void vmm_doorbell(void *arg)
{
	struct vm *vm = arg;

	if (!vm->ended && vm->kind->doorbell)
		vm->kind->doorbell(vm);
}

static const struct vmm_events vmm_events = {
	.ram_mapped = vmm_ram_mapped,
	.ready = vmm_ready,
	.doorbell = vmm_doorbell,
	.ended = vmm_ended,
};

/* ---- XenStore ---- */

static void xs_send(void *arg, const void *bytes, size_t len)
{
	struct vm *vm = arg;

	bufferevent_write(vm->xs_io, bytes, len);
	/* a guest that asks and does not read is not listened to until it has read */
	if (evbuffer_get_length(bufferevent_get_output(vm->xs_io)) > XS_BACKLOG_BYTES)
		bufferevent_disable(vm->xs_io, EV_READ);
}

static void xs_drained(struct bufferevent *io, void *arg)
{
	(void)arg;
	bufferevent_enable(io, EV_READ);
}

static void count_one(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
}

/* Return: true if the request may be served. A flood is answered with refusals, then not at all. */
static bool admit_request(struct vm *vm, const char *key)
{
	uint64_t second = io_now_ns() / 1000000000u;
	unsigned replies = 0;

	if (second != vm->rate_second) {
		vm->rate_second = second;
		vm->rate_count = 0;
	}
	if (++vm->rate_count > 2 * REQUESTS_PER_S)
		return false;
	xs_host_list(vm->xs, SF_XS_REPLY, count_one, &replies);
	if (replies >= MAX_REPLIES) {
		if (vm->rate_count == 1)
			log_warn("vm %s: it leaves %u answers lying about: no more until it "
				 "removes some",
				 vm->name, replies);
		return false;
	}
	if (vm->rate_count <= REQUESTS_PER_S)
		return true;
	vm_answer_error(vm, key, EDQUOT, "more than %d requests in a second", REQUESTS_PER_S);
	return false;
}

/* The directories are the guest's own, so it may remove them: they come back. */
static void keep_directory(struct vm *vm, const char *below_home)
{
	if (!strcmp(below_home, SF_XS_REQUEST) || !strcmp(below_home, SF_XS_REPLY))
		xs_host_write(vm->xs, below_home, "", true);
}

/* The guest wrote something: is it a request to us? */
static void xs_changed(void *arg, const char *path, const char *value, size_t len)
{
	struct vm *vm = arg;
	char home[32], key[SF_XS_KEY_MAX + 1];
	int n = snprintf(home, sizeof(home), "/local/domain/%u/", vm->slot + 1);
	const char *below = path + n;
	struct request r;

	if (strncmp(path, home, (size_t)n))
		return;
	if (!value)
		keep_directory(vm, below);
	if (!value || !len || strncmp(below, SF_XS_REQUEST "/", strlen(SF_XS_REQUEST "/")))
		return;
	below += strlen(SF_XS_REQUEST "/");
	if (!request_key_valid(below))
		return;
	strcpy(key, below);
	xs_host_remove(vm->xs, path);
	if (!admit_request(vm, key))
		return;
	if (request_split(&r, value, len)) {
		vm_answer_error(vm, key, EINVAL,
				"a request has up to %d words and %d bytes of printable text",
				REQUEST_MAX_WORDS, SF_XS_REQUEST_MAX);
		return;
	}
	log_debug("vm %s: request %s: %s, %u words", vm->name, key, r.words[0], r.count);
	vm->kind->request(vm, key, &r);
}

static const struct xs_hooks xs_hooks = { .send = xs_send, .changed = xs_changed };

static void xs_readable(struct bufferevent *io, void *arg)
{
	struct vm *vm = arg;
	struct evbuffer *in = bufferevent_get_input(io);

	while (vm->xs && evbuffer_get_length(in)) {
		size_t len = evbuffer_get_contiguous_space(in);

		if (xs_input(vm->xs, evbuffer_pullup(in, (ev_ssize_t)len), len)) {
			vm_fail(vm, "the guest's XenStore stream made no sense");
			return;
		}
		evbuffer_drain(in, len);
	}
	if (vm->xs && vm->kind->received)
		vm->kind->received(vm);
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	vm_fail(arg, "QEMU closed a channel of the VM's, but did not end");
}

/* A channel is at its end: mostly so is QEMU, which vmm tells in a moment, and knows why. */
static void channel_closed(struct vm *vm)
{
	static const struct timeval moment = { CLOSED_LIMIT_S, 0 };

	if (!vm->ended && !evtimer_pending(vm->closed, NULL))
		event_add(vm->closed, &moment);
}

static void xs_event(struct bufferevent *io, short what, void *arg)
{
	(void)io;
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		channel_closed(arg);
}

int vm_xs_create(struct vm *vm)
{
	vm->xs = xs_create(vm->slot + 1, NULL, &xs_hooks, vm);
	return vm->xs ? 0 : -errno;
}

int vm_xs_restore(struct vm *vm, const uint8_t *state, size_t len)
{
	vm->xs = xs_restore(vm->slot + 1, NULL, &xs_hooks, vm, state, len);
	return vm->xs ? 0 : -errno;
}

void vm_answer(struct vm *vm, const char *key, const char *format, ...)
{
	char path[sizeof(SF_XS_REPLY) + 1 + SF_XS_KEY_MAX], text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(path, sizeof(path), SF_XS_REPLY "/%s", key);
	log_debug("vm %s: request %s: %s", vm->name, key, text);
	xs_host_write(vm->xs, path, text, true);
}

void vm_answer_error(struct vm *vm, const char *key, int error, const char *format, ...)
{
	char why[WHY_BYTES];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	if (vm->rate_count <= LOGGED_PER_S)
		log_info("vm %s: request %s refused: %s", vm->name, key, why);
	vm_answer(vm, key, "error %s %s", link_errno_name(error < 0 ? -error : error), why);
}

/* ---- agent ---- */

static void agent_frame(void *arg, const struct agent_frame *frame, const void *payload)
{
	struct vm *vm = arg;

	vm->kind->frame(vm, frame, payload);
}

static void agent_broken(void *arg, const char *why)
{
	struct vm *vm = arg;
	char sentence[WHY_BYTES];

	if (!why) {
		channel_closed(vm);
		return;
	}
	snprintf(sentence, sizeof(sentence), "the agent's port: %s", why);
	vm_fail(vm, sentence);
}

static const struct agent_port_events agent_events = { .frame = agent_frame,
						       .broken = agent_broken };

void vm_identity(const struct vm *vm, struct agent_resume *resume)
{
	struct in6_addr address6;
	struct timespec now;

	resume->prefix = FAMILY_PREFIX;
	resume->address = family_address(vm->family, vm->slot).s_addr;
	resume->gateway = vm->family->gateway.s_addr;
	resume->parent = vm->family->base.s_addr;
	resume->answer_port = AGENT_ANSWER_PORT;
	clock_gettime(CLOCK_REALTIME, &now);
	resume->realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	memcpy(resume->mac, vm->mac, sizeof(resume->mac));
	if (!vm->family->ipv6)
		return;
	resume->prefix6 = VNET_PREFIX6;
	vnet_address6(vm->family->vni, vm->slot, &address6);
	memcpy(resume->address6, &address6, sizeof(resume->address6));
}

void vm_resume(struct vm *vm, struct agent_resume *resume)
{
	vm_identity(vm, resume);
	agent_port_send_now(vm->agent, AGENT_RESUME, resume, sizeof(*resume));
}

/* ---- all of it ---- */

/* Makes a pair: one end is ours, the other goes to QEMU. Return: 0 or -errno. */
static int make_pair(int *ours, int *qemus)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	*ours = pair[0];
	*qemus = pair[1];
	return 0;
}

static int connect_channels(struct vm *vm, int *xs_ours, int *agent_ours)
{
	evutil_make_socket_nonblocking(*xs_ours);
	vm->xs_io = bufferevent_socket_new(vm->daemon->base, *xs_ours,
					   BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	if (!vm->xs_io)
		return -ENOMEM;
	steal_fd(xs_ours);
	bufferevent_setcb(vm->xs_io, xs_readable, xs_drained, xs_event, vm);
	bufferevent_enable(vm->xs_io, EV_READ | EV_WRITE);
	vm->agent = agent_port_new(vm->daemon->base, *agent_ours, &agent_events, vm);
	if (!vm->agent)
		return -ENOMEM;
	steal_fd(agent_ours);
	return 0;
}

/* The kernel it begins with: its own, none if its disk has one, or the guest image's. */
static void choose_kernel(const struct vm *vm, const struct vm_plan *plan,
			  struct vmm_config *config, char kernel[PATH_MAX], char initrd[PATH_MAX])
{
	config->kernel = plan->kernel;
	config->initrd = plan->initrd;
	if (config->disk_count)
		return;
	paths_guest(vm->daemon, "vmlinuz", kernel, PATH_MAX);
	paths_guest(vm->daemon, "initrd.img", initrd, PATH_MAX);
	if (!plan->kernel)
		config->kernel = kernel;
	if (!plan->initrd)
		config->initrd = initrd;
}

static int start_qemu(struct vm *vm, const struct vm_plan *plan, int tap, int xs_fd, int agent_fd,
		      const int *disk_fds, char why[WHY_BYTES])
{
	struct daemon *d = vm->daemon;
	char cluster[128], host[96], shim[PATH_MAX], kernel[PATH_MAX], initrd[PATH_MAX],
		console[PATH_MAX];
	_cleanup_fd_ int console_fd = -1;
	struct vmm_config config = {
		.name = vm->name,
		.qemu = d->config.qemu,
		.shim = shim,
		.accel = d->config.accel,
		.ram_bytes = vm->family->ram_bytes,
		.cpus = vm->family->cpus,
		.ipv6 = vm->family->ipv6,
		.uid = vm->uid,
		.cmdline = plan->append,
		.clone = plan->clone,
		.ram_fd = plan->ram_fd,
		.window_fd = plan->window_fd,
		.tap_fd = tap,
		.xenstore_fd = xs_fd,
		.agent_fd = agent_fd,
		.disk_count = vm->family->disk_count,
	};

	if (plan->window_fd >= 0) {
		config.window_offset = window_offset(&plan->window);
		config.window_bytes = window_bytes(&plan->window);
	}
	memcpy(config.mac, vm->mac, sizeof(config.mac));
	snprintf(cluster, sizeof(cluster), "SF_CLUSTER=%s", d->config.cluster);
	snprintf(host, sizeof(host), "SF_HOST=%s", d->self->name);
	config.marks[0] = cluster;
	config.marks[1] = host;
	paths_libexec(d, "sf-uffd-shim.so", shim, sizeof(shim));
	choose_kernel(vm, plan, &config, kernel, initrd);
	memcpy(config.disk_fds, disk_fds, sizeof(config.disk_fds));
	snprintf(console, sizeof(console), "%s/console.log", d->config.dir);
	console_fd = open(console, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	config.console_fd = plan->console_fd >= 0 ? plan->console_fd : console_fd;
	return vmm_start(d->base, &config, &vmm_events, vm, &vm->vmm, why, WHY_BYTES);
}

/* ---- disks ---- */

static void disk_ended(void *arg, const char *why)
{
	struct vm *vm = arg;

	if (why)
		vm_fail(vm, why);
	else
		channel_closed(vm);
}

/* Starts the server of each disk; `fds` gets QEMU's ends. */
static int start_disks(struct vm *vm, int fds[VMM_MAX_DISKS], char why[WHY_BYTES])
{
	const struct family *f = vm->family;
	int rc = f->disk_count ? data_room(vm->daemon, 0, why) : 0;

	for (unsigned i = 0; i < f->disk_count && !rc; i++) {
		vm->disks[i] = disk_start(vm->daemon, vm->name, i, f->disks[i].bytes, vm->uid,
					  &fds[i], disk_ended, vm, why);
		if (!vm->disks[i])
			rc = -EIO;
	}
	return rc;
}

static void stop_disks(struct vm *vm)
{
	for (unsigned i = 0; i < VMM_MAX_DISKS && vm->disks[i]; i++) {
		export_disk_lost(vm->disks[i]);
		disk_stop(steal_ptr(&vm->disks[i]));
	}
}

json_t *vm_describe_disks(const struct vm *vm)
{
	json_t *disks = json_array();

	for (unsigned i = 0; i < VMM_MAX_DISKS && vm->disks[i]; i++) {
		const struct disk *k = vm->disks[i];

		json_array_append_new(
			disks, json_pack("{sI si sI si}", "bytes", (json_int_t)disk_bytes(k),
					 "layers", (int)disk_layers(k), "own_bytes",
					 (json_int_t)disk_own_bytes(k), "pid", (int)disk_pid(k)));
	}
	return disks;
}

/* ---- start, end ---- */

int vm_start(struct vm *vm, struct family *f, const struct vm_plan *plan, char why[WHY_BYTES])
{
	_cleanup_fd_ int tap = -1, xs_ours = -1, xs_qemu = -1, agent_ours = -1, agent_qemu = -1;
	int disk_fds[VMM_MAX_DISKS] = { -1, -1, -1, -1 };
	int rc;

	vm->daemon = f->daemon;
	vm->family = f;
	vm->kind = plan->kind;
	vm->slot = plan->slot;
	vm->uid = daemon_next_uid(vm->daemon);
	vm->started_ns = io_now_ns();
	vm->closed = evtimer_new(vm->daemon->base, on_closed, vm);
	if (!vm->closed) {
		snprintf(why, WHY_BYTES, "out of memory");
		return -ENOMEM;
	}
	vnet_mac(f->vni, vm->slot, vm->mac);
	rc = daemon_take_memory(vm->daemon, plan->charge);
	if (rc) {
		snprintf(why, WHY_BYTES, "host %s has %llu MB left for guests, %llu MB are needed",
			 vm->daemon->self->name,
			 (unsigned long long)daemon_free_memory(vm->daemon) >> 20,
			 (unsigned long long)plan->charge >> 20);
		event_free(steal_ptr(&vm->closed));
		return rc;
	}
	vm->charge = plan->charge;
	rc = make_pair(&xs_ours, &xs_qemu);
	if (!rc)
		rc = make_pair(&agent_ours, &agent_qemu);
	if (!rc)
		rc = connect_channels(vm, &xs_ours, &agent_ours);
	if (rc)
		snprintf(why, WHY_BYTES, "no channels: %s", strerror(-rc));
	if (!rc)
		rc = vnet_port_open(f->segment, vm->slot, &tap, why, WHY_BYTES);
	if (!rc)
		rc = start_disks(vm, disk_fds, why);
	if (!rc)
		rc = start_qemu(vm, plan, tap, xs_qemu, agent_qemu, disk_fds, why);
	for (unsigned i = 0; i < VMM_MAX_DISKS; i++)
		cleanup_close(&disk_fds[i]);
	if (rc)
		vm_stop(vm);
	return rc;
}

void vm_stop(struct vm *vm)
{
	vm->ended = true;
	if (vm->closed)
		event_free(vm->closed);
	vm->closed = NULL;
	vmm_destroy(vm->vmm);
	vm->vmm = NULL;
	stop_disks(vm);
	agent_port_free(vm->agent);
	vm->agent = NULL;
	if (vm->xs_io)
		bufferevent_free(vm->xs_io);
	vm->xs_io = NULL;
	xs_destroy(vm->xs);
	vm->xs = NULL;
	if (vm->family)
		vnet_port_close(vm->family->segment, vm->slot);
	if (vm->charge)
		daemon_give_memory(vm->daemon, vm->charge);
	vm->charge = 0;
}
