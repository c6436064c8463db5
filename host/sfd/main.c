/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfd, the daemon on every host: options, start, signals, end. */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "config.h"
#include "host/sfd/control.h"
#include "host/sfd/daemon.h"
#include "host/sfd/hosts.h"
#include "host/sfd/peers.h"
#include "host/sfd/probe.h"

#define STOP_LIMIT_S 4 /* a link lingers for 3 */

const char *argp_program_version = "sfd (snowflock) " PACKAGE_VERSION;

enum {
	OPT_CLUSTER = 256,
	OPT_HOST,
	OPT_HOSTS,
	OPT_KEY,
	OPT_DIR,
	OPT_GUEST,
	OPT_LIBEXEC,
	OPT_QEMU,
	OPT_MEM,
	OPT_ACCEL,
	OPT_READY_FD,
	OPT_CLONE_PERCENT,
	OPT_SWEEP,
	OPT_DISTRIBUTION,
	OPT_PUSH,
	OPT_COMPRESS,
	OPT_DATA
};

static const struct argp_option options[] = {
	{ "cluster", OPT_CLUSTER, "NAME", 0, "Name of the cluster [default]", 0 },
	{ "host", OPT_HOST, "NAME", 0, "Which line of the hosts file we are", 0 },
	{ "hosts", OPT_HOSTS, "FILE", 0, "Hosts of the cluster: name address[:port] [mem=SIZE]",
	  0 },
	{ "key", OPT_KEY, "FILE", 0, "The cluster's key, 32 bytes, the same on every host", 0 },
	{ "dir", OPT_DIR, "DIR", 0, "Folder for the control socket and logs", 0 },
	{ "data", OPT_DATA, "DIR", 0,
	  "Folder for what VMs write to their disks, without names there [/var/tmp]", 0 },
	{ "guest", OPT_GUEST, "DIR", 0, "Folder with the guest's vmlinuz and initrd.img", 0 },
	{ "libexec-dir", OPT_LIBEXEC, "DIR", 0, "Build tree or folder to find sf-memtap in", 0 },
	{ "qemu", OPT_QEMU, "FILE", 0, "QEMU to run [qemu-system-x86_64 in PATH]", 0 },
	{ "mem", OPT_MEM, "SIZE", 0, "Memory for guests [nine tenths of what is available]", 0 },
	{ "accel", OPT_ACCEL, "WORD", 0, "auto, kvm or tcg [auto]", 0 },
	{ "clone-percent", OPT_CLONE_PERCENT, "N", 0,
	  "Count a clone with N percent of its RAM: clones share what they do not write [25]", 0 },
	{ "sweep", OPT_SWEEP, "PAGES", 0,
	  "Pages per second that a frozen guest's memory is copied with [8192]", 0 },
	{ "distribution", OPT_DISTRIBUTION, "WORD", 0,
	  "How pages get to many hosts: auto, multicast, tree or unicast [auto]", 0 },
	{ "push", OPT_PUSH, "SIZE/s|off", 0,
	  "Send clones' hosts all of a guest's memory, unasked, no faster than this [off]", 0 },
	{ "compress", OPT_COMPRESS, "on|off", 0, "Compress pages on their way [on]", 0 },
	{ "ready-fd", OPT_READY_FD, "FD", 0, "Write k, or an error, here when ready", 0 },
	{ 0 },
};

static int parse_number(const char *text, unsigned long min, unsigned long max,
			unsigned long *number)
{
	char *end;

	errno = 0;
	*number = strtoul(text, &end, 10);
	return errno || end == text || *end || *text == '-' || *number < min || *number > max
		       ? -EINVAL
		       : 0;
}

/* "100M/s" → pages per second, "off" → 0. Return: 0 or -EINVAL. */
static int parse_push(const char *text, uint32_t *pages)
{
	char size[32];
	uint64_t bytes = 0;
	size_t len = strlen(text);

	*pages = 0;
	if (!strcmp(text, "off"))
		return 0;
	if (len < 3 || len >= sizeof(size) || strcmp(text + len - 2, "/s"))
		return -EINVAL;
	snprintf(size, sizeof(size), "%.*s", (int)len - 2, text);
	if (size_parse(size, &bytes) || bytes < MC_PAGE_BYTES ||
	    bytes / MC_PAGE_BYTES > UINT32_MAX)
		return -EINVAL;
	*pages = (uint32_t)(bytes / MC_PAGE_BYTES);
	return 0;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
	struct config *c = state->input;
	unsigned long number;

	switch (key) {
	case OPT_CLUSTER:
		c->cluster = arg;
		break;
	case OPT_HOST:
		c->host = arg;
		break;
	case OPT_HOSTS:
		c->hosts_file = arg;
		break;
	case OPT_KEY:
		c->key_file = arg;
		break;
	case OPT_DIR:
		c->dir = arg;
		break;
	case OPT_GUEST:
		c->guest_dir = arg;
		break;
	case OPT_DATA:
		c->data_dir = arg;
		break;
	case OPT_LIBEXEC:
		c->libexec_dir = arg;
		break;
	case OPT_QEMU:
		c->qemu = arg;
		break;
	case OPT_READY_FD:
		if (parse_number(arg, 0, INT_MAX, &number))
			argp_error(state, "--ready-fd %s: want a descriptor's number", arg);
		c->ready_fd = (int)number;
		break;
	case OPT_SWEEP:
		if (parse_number(arg, 0, UINT32_MAX, &number))
			argp_error(state, "--sweep %s: want pages per second", arg);
		c->sweep_pages = (unsigned)number;
		break;
	case OPT_MEM:
		if (size_parse(arg, &c->mem_bytes))
			argp_error(state, "--mem %s: want a size, as in 4G", arg);
		break;
	case OPT_ACCEL:
		if (vmm_accel_parse(arg, &c->accel))
			argp_error(state, "--accel %s: want auto, kvm or tcg", arg);
		break;
	case OPT_DISTRIBUTION:
		if (distribution_parse(arg, &c->distribution))
			argp_error(state, "--distribution %s: want auto, multicast, tree or unicast",
				   arg);
		break;
	case OPT_PUSH:
		if (parse_push(arg, &c->push_pages))
			argp_error(state, "--push %s: want off, or a rate, as in 100M/s", arg);
		break;
	case OPT_COMPRESS:
		c->compress = !strcmp(arg, "on");
		if (!c->compress && strcmp(arg, "off"))
			argp_error(state, "--compress %s: want on or off", arg);
		break;
	case OPT_CLONE_PERCENT:
		if (parse_number(arg, 1, 100, &number))
			argp_error(state, "--clone-percent %s: want 1 to 100", arg);
		c->clone_percent = (unsigned)number;
		break;
	case ARGP_KEY_END:
		if (!c->host || !c->hosts_file || !c->key_file || !c->dir)
			argp_error(state, "--host, --hosts, --key and --dir are needed");
		break;
	default:
		return ARGP_ERR_UNKNOWN;
	}
	return 0;
}

static const struct argp argp = {
	.options = options,
	.parser = parse_option,
	.doc = "The Snowflock daemon of one host: boots VMs, takes in clones, talks to the other "
	       "hosts. "
	       "Usually started by `sfctl cluster up`.",
};

static int read_key(struct daemon *d, char why[WHY_BYTES])
{
	_cleanup_fd_ int fd = open(d->config.key_file, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : io_read_full(fd, d->key, sizeof(d->key));

	if (rc)
		snprintf(why, WHY_BYTES, "cannot read %d bytes of key from %s: %s", LINK_KEY_BYTES,
			 d->config.key_file, strerror(-rc));
	return rc;
}

/* MemAvailable in /proc/meminfo. */
static uint64_t available_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	unsigned long long kib = 0;
	const char *line;
	size_t len;

	if (!io_read_file("/proc/meminfo", 1 << 16, &text, &len)) {
		line = strstr(text, "MemAvailable:");
		if (line)
			sscanf(line, "MemAvailable: %llu", &kib);
	}
	return (uint64_t)kib << 10;
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
	(void)sig;
	(void)what;
	daemon_stop(arg);
}

static int start(struct daemon *d, char why[WHY_BYTES])
{
	enum vmm_accel found;
	int rc = hosts_read(d, why);

	if (!rc)
		rc = read_key(d, why);
	if (!rc)
		rc = vmm_probe_accel(d->config.accel, &found, why, WHY_BYTES);
	if (rc)
		return rc;
	log_info("accelerator %s: %s", vmm_accel_name(found), why);
	d->config.accel = found;
	d->mem_bytes = d->config.mem_bytes;
	if (!d->mem_bytes)
		d->mem_bytes = d->self->mem_bytes ? d->self->mem_bytes : available_bytes() / 10 * 9;
	rc = control_start(d, why);
	if (!rc)
		rc = probe_start(d);
	if (!rc)
		rc = peers_start(d, why);
	if (!rc)
		daemon_host_up(d); /* a cluster of one is whole already */
	return rc;
}

static void too_late(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
}

/* Closes everything, and lets the loop send what is on its way and see the processes end. */
static void stop(struct daemon *d)
{
	static const struct timeval limit = { STOP_LIMIT_S, 0 };
	struct event *late;
	bool over = false;

	control_stop(d);
	peers_stop(d);
	probe_stop(d);
	late = evtimer_new(d->base, too_late, &over);
	if (late)
		event_add(late, &limit);
	while (late && !over && event_base_get_num_events(d->base, EVENT_BASE_COUNT_ADDED) > 1)
		event_base_loop(d->base, EVLOOP_ONCE);
	if (late)
		event_free(late);
	peers_free(d);
	control_free_server(d);
	hosts_free(d);
	sodium_memzero(d->key, sizeof(d->key));
}

/* Every guest takes some descriptors of ours, every clone too. */
static void raise_limits(void)
{
	struct rlimit files;

	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int run(struct daemon *d, char why[WHY_BYTES])
{
	struct event *term = evsignal_new(d->base, SIGTERM, on_signal, d);
	struct event *intr = evsignal_new(d->base, SIGINT, on_signal, d);
	int rc = term && intr ? start(d, why) : -ENOMEM;

	if (!rc) {
		event_add(term, NULL);
		event_add(intr, NULL);
		event_base_dispatch(d->base);
	}
	if (term)
		event_free(term);
	if (intr)
		event_free(intr);
	stop(d);
	return rc;
}

int main(int argc, char **argv)
{
	struct daemon d = { .config = { .cluster = "default",
					.data_dir = "/var/tmp",
					.clone_percent = 25,
					.sweep_pages = 8192,
					.compress = true,
					.ready_fd = -1 },
			    .next_guest = 1 };
	char why[WHY_BYTES] = "";
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &d.config);
	log_init("sfd", LOG_LVL_INFO);
	signal(SIGPIPE, SIG_IGN);
	if (sodium_init() < 0)
		return EXIT_FAILURE;
	/* children are found again by these, whatever becomes of us (sfctl clean) */
	setenv("SF_CLUSTER", d.config.cluster, 1);
	setenv("SF_HOST", d.config.host, 1);
	LIST_INIT(&d.families);
	LIST_INIT(&d.guests);
	raise_limits();
	d.base = event_base_new();
	rc = d.base ? run(&d, why) : -ENOMEM;
	if (rc) {
		log_err("%s", *why ? why : strerror(-rc));
		if (d.config.ready_fd >= 0)
			dprintf(d.config.ready_fd, "%s\n", *why ? why : strerror(-rc));
	}
	if (d.base)
		event_base_free(d.base);
	return rc ? EXIT_FAILURE : EXIT_SUCCESS;
}
