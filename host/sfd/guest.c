/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A booted VM's life: boot, what its libsf asks for, what its clones' hosts tell, its end. */
#define _GNU_SOURCE
#include "host/sfd/guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/control.h"

#define BOOT_LIMIT_S 180
/* 10.64.0.0/10: 1024 segments of /20, FAMILIES_PER_HOST for each of the first 64 hosts. */
#define PLAN_BASE 0x0a400000u
#define PLAN_SEGMENTS 1024

static const struct vm_kind guest_kind;

static struct guest *to_guest(struct vm *vm)
{
	return (struct guest *)vm;	/* vm is its first member */
}
_Static_assert(offsetof(struct guest, vm) == 0, "to_guest");

static struct guest *guest_number(struct daemon *d, unsigned number)
{
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		if (g->number == number)
			return g;
	}
	return NULL;
}

struct guest *guest_find(struct daemon *d, const char *id)
{
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		if (!strcmp(g->vm.family->name, id))
			return g;
	}
	return NULL;
}

struct ticket *guest_ticket(struct guest *g, unsigned number)
{
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->number == number)
			return t;
	}
	return NULL;
}

void guest_tell(struct guest *g, json_t *event)
{
	json_object_set_new(event, "vm", json_string(g->vm.family->name));
	if (g->watcher)
		control_event(g->watcher, event);
	else
		json_decref(event);
}

/* ---- boot ---- */

static void guest_ram_registered(void *arg, int error, const struct memtap_reply *reply)
{
	struct guest *g = arg;

	(void)reply;
	vmm_ram_accept(g->vm.vmm, !error);
}

static void guest_ram_mapped(struct vm *vm, int uffd, uint64_t base)
{
	struct guest *g = to_guest(vm);

	if (pager_parent(vm->family->pager, uffd, g->ram_fd, base, guest_ram_registered, g))
		vmm_ram_accept(vm->vmm, false);
}

static void boot_step(struct guest *g, const char *step)
{
	if (g->owner)
		control_event(g->owner, json_pack("{ss ss ss}", "ev", "boot", "vm", g->vm.family->name, "step", step));
}

static void guest_ready(struct vm *vm)
{
	boot_step(to_guest(vm), "kernel");
}

/* The tree of a VM that was just booted (proto/xenstore-tree.h). */
static int write_tree(struct guest *g)
{
	struct family *f = g->vm.family;
	struct xs_server *xs;
	char base[INET_ADDRSTRLEN], gateway[INET_ADDRSTRLEN];
	int rc = vm_xs_create(&g->vm);

	if (rc)
		return rc;
	xs = g->vm.xs;
	inet_ntop(AF_INET, &f->base, base, sizeof(base));
	inet_ntop(AF_INET, &f->gateway, gateway, sizeof(gateway));
	xs_host_printf(xs, "domid", "%u", g->vm.slot + 1);
	xs_host_write(xs, "name", g->name, false);
	xs_host_write(xs, "snowflock/version", SF_XS_VERSION, false);
	xs_host_write(xs, "snowflock/id", "0", false);
	xs_host_write(xs, "snowflock/count", "0", false);
	xs_host_printf(xs, "snowflock/limit", "%u", SF_MAX_CLONES);
	xs_host_write(xs, "snowflock/net/base", base, false);
	xs_host_printf(xs, "snowflock/net/prefix", "%u", FAMILY_PREFIX);
	xs_host_write(xs, "snowflock/net/gateway", gateway, false);
	xs_host_printf(xs, "snowflock/net/answer-port", "%u", 1973u);
	xs_host_write(xs, SF_XS_REQUEST, "", true);
	xs_host_write(xs, SF_XS_REPLY, "", true);
	return 0;
}

/* The guest's uninvited end, or a boot that took too long: from the loop. */
static void guest_fail_later(evutil_socket_t fd, short what, void *arg)
{
	struct guest *g = arg;

	(void)fd;
	if (!*g->vm.why)
		snprintf(g->vm.why, sizeof(g->vm.why), "its agent did not report within %d s of the boot",
			 BOOT_LIMIT_S);
	(void)what;
	log_err("vm %s: %s", g->vm.name, g->vm.why);
	if (g->boot_request)
		control_refuse(g->owner, g->boot_request, -EIO, "the VM did not come up: %s", g->vm.why);
	else if (g->owner)
		control_event(g->owner, json_pack("{ss ss ss}", "ev", "lost", "vm", g->vm.family->name, "reason",
						  g->vm.why));
	json_decref(g->boot_request);
	g->boot_request = NULL;
	guest_destroy(g);
}

static void guest_ended(struct vm *vm, const char *why)
{
	struct guest *g = to_guest(vm);

	if (g->dying)
		return;
	snprintf(vm->why, sizeof(vm->why), "%s", why);
	event_active(g->boot_limit, EV_TIMEOUT, 0);
}

/* A number for the cluster's name, so that two clusters on the same hosts seldom plan the same. */
static unsigned cluster_offset(const struct daemon *d)
{
	unsigned hash = 5381;

	for (const char *c = d->config.cluster; *c; c++)
		hash = hash * 33 + (unsigned char)*c;
	return hash;
}

/*
 * Makes the guest's family in the first of this host's segments that is free here. The plan needs no
 * talk between the hosts: each has FAMILIES_PER_HOST segments of its own.
 */
static struct family *make_family(struct daemon *d, struct guest *g, const struct guest_wish *wish,
				  char why[WHY_BYTES])
{
	unsigned first = cluster_offset(d) + d->self->index * FAMILIES_PER_HOST;

	for (unsigned slot = 0; slot < FAMILIES_PER_HOST; slot++) {
		unsigned segment = (first + slot) % PLAN_SEGMENTS;
		struct in_addr base = { htonl(PLAN_BASE + (segment << (32 - FAMILY_PREFIX)) + 1) };
		/* random: other clusters on these hosts have other numbers, a frame never meets a stranger */
		uint32_t vni = 1 + randombytes_uniform((1u << 24) - 2);
		struct family *f = family_create(d, d->self, g->number, wish->mem_bytes, wish->cpus, vni, base, why);

		if (f || (errno != EADDRINUSE && errno != EEXIST))
			return f;
	}
	snprintf(why, WHY_BYTES, "host %s has no network left for another VM: it runs %d, or others use "
		 "10.64.0.0/10", d->self->name, FAMILIES_PER_HOST);
	return NULL;
}

static int guest_start(struct guest *g, struct family *f, const struct guest_wish *wish, char why[WHY_BYTES])
{
	struct vm_plan plan = { .kind = &guest_kind, .kernel = wish->kernel, .initrd = wish->initrd,
				.charge = f->ram_bytes };
	int rc;

	g->ram_fd = memfd_create("sf-ram", MFD_CLOEXEC);
	if (g->ram_fd < 0 || ftruncate(g->ram_fd, (off_t)f->ram_bytes) || fchmod(g->ram_fd, 0666)) {
		snprintf(why, WHY_BYTES, "no file for the guest's memory: %s", strerror(errno));
		return -errno;
	}
	plan.ram_fd = g->ram_fd;
	snprintf(g->vm.name, sizeof(g->vm.name), "%s", f->name);
	rc = vm_start(&g->vm, f, &plan, why);
	if (rc)
		return rc;
	rc = write_tree(g);
	if (rc) {
		vm_stop(&g->vm);
		snprintf(why, WHY_BYTES, "no XenStore: %s", strerror(-rc));
	}
	return rc;
}

static void guest_free(struct guest *g)
{
	if (g->ram_fd >= 0)
		close(g->ram_fd);
	if (g->boot_limit)
		event_free(g->boot_limit);
	json_decref(g->boot_request);
	json_decref(g->records);
	free(g->slots);
	free(g);
}

int guest_boot(struct daemon *d, const struct guest_wish *wish, struct control *owner, json_t *request,
	       char why[WHY_BYTES])
{
	static const struct timeval limit = { BOOT_LIMIT_S, 0 };
	struct guest *g = calloc(1, sizeof(*g));
	struct family *f = NULL;
	int rc = -ENOMEM;

	snprintf(why, WHY_BYTES, "out of memory");
	if (!g)
		return rc;
	g->ram_fd = -1;
	g->slots = calloc(1, FAMILY_MAX_SLOT + 1);
	g->records = json_array();
	g->number = d->next_guest++;
	g->next_ticket = g->next_checkpoint = g->next_op = g->next_serial = g->next_stream = 1;
	if (!g->slots)
		goto err_guest;
	g->slots[0] = 1;
	rc = -ENOSPC;
	f = make_family(d, g, wish, why);
	if (!f)
		goto err_guest;
	snprintf(g->name, sizeof(g->name), "%.60s", wish->name ? wish->name : f->name);
	rc = guest_start(g, f, wish, why);
	if (rc)
		goto err_family;
	g->owner = owner;
	g->boot_request = json_incref(request);
	g->boot_limit = evtimer_new(d->base, guest_fail_later, g);
	event_add(g->boot_limit, &limit);
	LIST_INSERT_HEAD(&d->guests, g, entry);
	boot_step(g, "starting");
	return 0;

err_family:
	family_destroy(f);
err_guest:
	guest_free(g);
	return rc;
}

/* ---- frames ---- */

static void guest_hello(struct guest *g)
{
	struct agent_resume resume = { .op = 0 };

	vm_resume(&g->vm, &resume);
	if (!g->hello)
		boot_step(g, "agent");
	g->hello = true;
}

static void guest_resumed(struct guest *g, int error)
{
	if (g->up)
		return;
	if (error) {
		char why[WHY_BYTES];

		snprintf(why, sizeof(why), "its agent could not set up the network: %s", strerror(error));
		guest_ended(&g->vm, why);
		return;
	}
	g->up = true;
	event_del(g->boot_limit);
	log_info("vm %s: up", g->vm.name);
	if (g->boot_request)
		control_reply(g->owner, g->boot_request, json_pack("{ss}", "vm", g->vm.family->name));
	json_decref(g->boot_request);
	g->boot_request = NULL;
}

/* A clone reached the parent: of which ticket its address tells, the newest that has the ID. */
static void guest_answered(struct guest *g, const struct agent_answered *a)
{
	struct ticket *t;

	LIST_FOREACH(t, &g->tickets, entry) {
		if (t->state < TICKET_RUNNING || a->id < 1 || a->id > t->count)
			continue;
		if (t->children[a->id - 1].answered_ms < 0) {
			ticket_answered(t, a->id);
			return;
		}
	}
}

static void guest_frame(struct vm *vm, const struct agent_frame *f, const void *payload)
{
	struct guest *g = to_guest(vm);

	if (g->dying)
		return;
	switch (f->type) {
	case AGENT_HELLO:
		guest_hello(g);
		break;
	case AGENT_RESUMED:
		guest_resumed(g, ((const struct agent_status *)payload)->value);
		break;
	case AGENT_QUIESCED:
		freeze_quiesced(g, payload);
		break;
	case AGENT_ANSWERED:
		guest_answered(g, payload);
		break;
	default:
		stream_frame(g, f, payload);
	}
}

static void guest_received(struct vm *vm)
{
	freeze_received(to_guest(vm));
}

/* ---- requests of libsf ---- */

void guest_settle(struct guest *g, const char *key)
{
	struct pending *p;

	LIST_FOREACH(p, &g->pending, entry) {
		if (strcmp(p->key, key))
			continue;
		LIST_REMOVE(p, entry);
		g->pending_count--;
		free(p);
		return;
	}
}

static void done_request(struct guest *g, const char *key, const char *answer)
{
	vm_answer(&g->vm, key, "%s", answer);
	guest_settle(g, key);
}

static void refuse_request(struct guest *g, const char *key, int error, const char *why)
{
	vm_answer_error(&g->vm, key, error, "%s", why);
	guest_settle(g, key);
}

/* The ticket named in a word. NULL: the request was refused. */
static struct ticket *named_ticket(struct guest *g, const char *key, const char *word)
{
	char *end = NULL;
	unsigned long number = word ? strtoul(word, &end, 10) : 0;
	struct ticket *t = word && *word && !*end ? guest_ticket(g, (unsigned)number) : NULL;

	if (!t)
		refuse_request(g, key, ENOENT, "there is no such ticket");
	return t;
}

static struct checkpoint *named_checkpoint(struct guest *g, const char *key, const char *word)
{
	struct checkpoint *c;

	LIST_FOREACH(c, &g->checkpoints, entry) {
		if (word && strtoul(word, NULL, 10) == c->number)
			return c;
	}
	refuse_request(g, key, ENOENT, "there is no such checkpoint");
	return NULL;
}

static void ask_ticket_words(struct guest *g, const char *key, char **words)
{
	unsigned n = words[0] ? (unsigned)strtoul(words[0], NULL, 10) : 0, min = 1, per_host = 0, vcpus, tickets = 0;
	struct ticket *t;

	if (!words[0] || strspn(words[0], "0123456789") != strlen(words[0]) || n < 1 || n > SF_MAX_CLONES) {
		refuse_request(g, key, EINVAL, "the number of clones is between 1 and 1024");
		return;
	}
	for (char **w = words + 1; *w; w++) {
		if (sscanf(*w, "min=%u", &min) == 1 || sscanf(*w, "per-host=%u", &per_host) == 1)
			continue;
		if (sscanf(*w, "vcpus=%u", &vcpus) != 1) {
			refuse_request(g, key, EINVAL, "a ticket has no such hint");
			return;
		}
		if (vcpus && vcpus != g->vm.family->cpus) {
			refuse_request(g, key, EINVAL, "a clone has as many virtual CPUs as its parent");
			return;
		}
	}
	LIST_FOREACH(t, &g->tickets, entry)
		tickets++;
	if (tickets >= GUEST_MAX_TICKETS)
		refuse_request(g, key, EDQUOT, "too many tickets: release some");
	else
		ticket_request(g, key, n, min, per_host);
}

static void ask_clone(struct guest *g, const char *key, char **words)
{
	struct ticket *t = named_ticket(g, key, words[0]);

	if (!t)
		return;
	if (t->state != TICKET_GRANTED)
		refuse_request(g, key, EBUSY, "the ticket is in use or used up");
	else if (g->freeze)
		refuse_request(g, key, EBUSY, "another clone operation is under way");
	else
		freeze_begin(g, key, t);
}

static void ask_checkpoint(struct guest *g, const char *key, char **words)
{
	unsigned count = 0;
	struct checkpoint *c;

	(void)words;
	LIST_FOREACH(c, &g->checkpoints, entry)
		count++;
	if (count >= GUEST_MAX_CHECKPOINTS)
		refuse_request(g, key, EDQUOT, "too many checkpoints: drop some");
	else if (g->freeze)
		refuse_request(g, key, EBUSY, "another clone operation is under way");
	else
		freeze_begin(g, key, NULL);
}

static void ask_create(struct guest *g, const char *key, char **words)
{
	struct checkpoint *c = named_checkpoint(g, key, words[0]);
	struct ticket *t = c ? named_ticket(g, key, words[0] ? words[1] : NULL) : NULL;
	char answer[32];

	if (!t)
		return;
	if (t->state != TICKET_GRANTED) {
		refuse_request(g, key, EBUSY, "the ticket is in use or used up");
		return;
	}
	ticket_start(t, c->instant, io_now_ns(), 0);
	snprintf(answer, sizeof(answer), "ok %u", t->count);
	done_request(g, key, answer);
}

static void ask_drop(struct guest *g, const char *key, char **words)
{
	struct checkpoint *c = named_checkpoint(g, key, words[0]);

	if (!c)
		return;
	instant_put(c->instant);
	LIST_REMOVE(c, entry);
	free(c);
	done_request(g, key, "ok");
}

static void ask_kill(struct guest *g, const char *key, char **words)
{
	struct ticket *t = named_ticket(g, key, words[0]);

	if (!t)
		return;
	if (t->state == TICKET_RUNNING)
		ticket_kill(t, 0);
	done_request(g, key, "ok");
}

static void ask_release(struct guest *g, const char *key, char **words)
{
	struct ticket *t = named_ticket(g, key, words[0]);

	if (!t)
		return;
	if (t->state == TICKET_RUNNING || t->state == TICKET_RESERVING) {
		refuse_request(g, key, EBUSY, "the ticket has clones that run: join or kill them");
		return;
	}
	ticket_release(t);
	done_request(g, key, "ok");
}

static void ask_joined(struct guest *g, const char *key, char **words)
{
	struct ticket *t = words[0] ? guest_ticket(g, (unsigned)strtoul(words[0], NULL, 10)) : NULL;

	if (t && t->state == TICKET_DONE)
		ticket_joined(t);
	guest_settle(g, key);
}

static void ask_exit(struct guest *g, const char *key, char **words)
{
	(void)words;
	refuse_request(g, key, EPERM, "only a clone ends by sf_exit(): this VM was booted");
}

static const struct verb {
	const char *name;
	void (*ask)(struct guest *g, const char *key, char **words);
} verbs[] = {
	{ "ticket", ask_ticket_words }, { "clone", ask_clone }, { "checkpoint", ask_checkpoint },
	{ "create", ask_create }, { "joined", ask_joined }, { "drop", ask_drop }, { "kill", ask_kill }, { "release", ask_release },
	{ "exit", ask_exit },
};

/* Return: false if the guest asks too much; the request was refused. */
static bool admit_request(struct guest *g, const char *key)
{
	uint64_t second = io_now_ns() / 1000000000u;
	struct pending *p;

	if (second != g->rate_second) {
		g->rate_second = second;
		g->rate_count = 0;
	}
	p = g->pending_count < SF_XS_MAX_PENDING && g->rate_count++ < GUEST_REQUESTS_PER_S ?
		    calloc(1, sizeof(*p)) : NULL;
	if (!p) {
		vm_answer_error(&g->vm, key, EDQUOT, "too many requests at once or in a second");
		return false;
	}
	snprintf(p->key, sizeof(p->key), "%s", key);
	LIST_INSERT_HEAD(&g->pending, p, entry);
	g->pending_count++;
	return true;
}

static void guest_request(struct vm *vm, const char *key, const char *text, size_t len)
{
	struct guest *g = to_guest(vm);
	char line[SF_XS_REQUEST_MAX + 1], *words[9], *save = NULL;
	unsigned count = 0;

	(void)len;
	if (g->dying || !admit_request(g, key))
		return;
	snprintf(line, sizeof(line), "%s", text);
	for (char *w = strtok_r(line, " ", &save); w && count < 8; w = strtok_r(NULL, " ", &save))
		words[count++] = w;
	words[count] = NULL;
	log_debug("vm %s: request %s: %s", vm->name, key, text);
	for (size_t i = 0; count && i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(words[0], verbs[i].name)) {
			verbs[i].ask(g, key, words + 1);
			return;
		}
	}
	refuse_request(g, key, EINVAL, "unknown request");
}

static const struct vm_kind guest_kind = {
	.ram_mapped = guest_ram_mapped, .ready = guest_ready, .ended = guest_ended, .frame = guest_frame,
	.received = guest_received, .request = guest_request,
};

/* ---- from the clones' hosts ---- */

/* The ticket and ID a message is about, if the host it came from has that clone. */
static struct ticket *message_child(struct daemon *d, struct host *from, json_t *msg, unsigned *id)
{
	int number, ticket, child;
	struct guest *g;
	struct ticket *t;

	if (json_unpack(msg, "{si si si}", "number", &number, "ticket", &ticket, "id", &child))
		return NULL;
	g = guest_number(d, (unsigned)number);
	t = g ? guest_ticket(g, (unsigned)ticket) : NULL;
	if (!t || child < 1 || (unsigned)child > t->count || t->children[child - 1].host != from)
		return NULL;
	*id = (unsigned)child;
	return t;
}

void guest_clone_running(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes, size_t len)
{
	unsigned id;
	struct ticket *t = message_child(d, from, msg, &id);

	(void)bytes;
	(void)len;
	if (t && t->state == TICKET_RUNNING)
		ticket_running(t, id);
}

void guest_clone_result(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes, size_t len)
{
	json_int_t offset, length;
	unsigned id;
	struct ticket *t = message_child(d, from, msg, &id);
	struct child *c;

	if (!t || json_unpack(msg, "{sI sI}", "offset", &offset, "length", &length) || length < 1 ||
	    (uint64_t)length > AGENT_MAX_RESULT)
		return;
	c = &t->children[id - 1];
	if (!offset && !c->result) {
		c->result = malloc((size_t)length);
		c->result_room = (size_t)length;
	}
	if (!c->result || (size_t)offset != c->result_bytes || len > c->result_room - c->result_bytes)
		return;
	memcpy(c->result + c->result_bytes, bytes, len);
	c->result_bytes += len;
}

void guest_clone_ended(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes, size_t len)
{
	static const char *const ends[] = { SF_CLONE_EXITED, SF_CLONE_KILLED, SF_CLONE_LOST, SF_CLONE_FAILED };
	json_int_t faults = 0, pages = 0, fetched = 0, exit_us = 0;
	const char *state = "", *reason = "";
	unsigned id;
	int status = 0;
	struct ticket *t = message_child(d, from, msg, &id);
	struct child *c;

	(void)bytes;
	(void)len;
	if (!t)
		return;
	json_unpack(msg, "{ss s?i s?s s?I s?I s?I s?I}", "state", &state, "status", &status, "reason", &reason,
		    "faults", &faults, "pages_fetched", &pages, "bytes_fetched", &fetched, "exit_us", &exit_us);
	c = &t->children[id - 1];
	c->status = status;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	c->faults = (uint64_t)faults;
	c->pages_fetched = (uint64_t)pages;
	c->bytes_fetched = (uint64_t)fetched;
	t->exit_ms = (double)exit_us / 1000;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (!strcmp(state, ends[i])) {
			ticket_child_ended(t, id, ends[i]);
			return;
		}
	}
	ticket_child_ended(t, id, SF_CLONE_LOST);
}

void guest_output(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes, size_t len)
{
	unsigned id;
	struct ticket *t = message_child(d, peer_from(r), msg, &id);
	json_int_t stream = 0;
	struct stream *s;
	int channel = 0;

	json_unpack(msg, "{sI si}", "stream", &stream, "channel", &channel);
	s = t ? stream_find(t->guest, (uint32_t)stream) : NULL;
	if (s && stream_control(s) && (channel == AGENT_STDOUT || channel == AGENT_STDERR) &&
	    len <= AGENT_MAX_DATA)
		control_data(stream_control(s), (uint32_t)stream, (unsigned)channel, id, bytes, len);
	peer_reply(r, NULL);
}

void guest_host_lost(struct daemon *d, struct host *host)
{
	struct ticket *t;
	struct guest *g;

	LIST_FOREACH(g, &d->guests, entry) {
		LIST_FOREACH(t, &g->tickets, entry)
			ticket_host_lost(t, host);
	}
}

/* ---- the end ---- */

void guest_family_failed(struct family *f)
{
	struct guest *g = guest_number(f->daemon, f->number);

	if (g)
		guest_ended(&g->vm, "its memory server could not be kept alive");
}

void guest_control_lost(struct daemon *d, struct control *control)
{
	struct guest *g, *next;

	for (g = LIST_FIRST(&d->guests); g; g = next) {
		next = LIST_NEXT(g, entry);
		stream_control_lost(g, control);
		if (g->watcher == control)
			g->watcher = NULL;
		if (g->owner != control)
			continue;
		g->owner = NULL;
		json_decref(g->boot_request);
		g->boot_request = NULL;
		guest_destroy(g);
	}
}

static void dismissed(void *arg, int error, const char *why, json_t *msg, const uint8_t *bytes, size_t len)
{
	(void)arg;
	(void)error;
	(void)why;
	(void)msg;
	(void)bytes;
	(void)len;
}

void guest_destroy(struct guest *g)
{
	struct daemon *d = g->vm.daemon;
	struct family *f = g->vm.family;
	struct checkpoint *c;
	struct pending *p;

	if (g->dying)
		return;
	g->dying = true;
	log_info("vm %s: ends", g->vm.name);
	freeze_cancel(g);
	stream_clear(g);
	while (LIST_FIRST(&g->tickets))
		ticket_release(LIST_FIRST(&g->tickets));
	while ((c = LIST_FIRST(&g->checkpoints))) {
		LIST_REMOVE(c, entry);
		instant_put(c->instant);
		free(c);
	}
	while ((p = LIST_FIRST(&g->pending))) {
		LIST_REMOVE(p, entry);
		free(p);
	}
	pager_forget(f->pager, g);
	vm_stop(&g->vm);
	for (unsigned i = 0; i < d->host_count; i++) {
		if (&d->hosts[i] != d->self && d->hosts[i].up)
			peer_call(&d->hosts[i], json_pack("{ss si}", "op", "dismiss", "number", (int)g->number),
				  NULL, 0, dismissed, NULL);
	}
	LIST_REMOVE(g, entry);
	clones_family_clear(f);
	family_destroy(f);
	guest_free(g);
}
