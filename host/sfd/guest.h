/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM that was booted here, and what its home keeps about it: tickets, instants, clones.
 *
 * ticket   GRANTED → RUNNING → DONE, then released. Its clones stand ready on the hosts before the
 *          clone operation; each is of one share (a host's part of the ticket).
 * instant  One frozen moment of the guest: snapshot (a page file that memtap armed), descriptor,
 *          XenStore state. Made by a clone operation for one ticket, or kept by a checkpoint for
 *          many. Counted: the last ticket or checkpoint that holds it lets it go.
 * freeze   The operation that makes an instant, one at a time:
 *          QUIET (the agent empties both channels) → SAVING (vmm_save) → ARMING (memtap) →
 *          CONTINUING (vmm_cont), then the guest goes on and the clones are started. If the
 *          guest's kernel module is to hold it, and did not yet when the VM was saved, it goes
 *          from SAVING by CONTINUING to HOLDING (it rings) and to SAVING once more.
 * window   Of the guest's kernel module, as its agent says. The clones of a ticket are prepared
 *          for one window or none, an instant is made with one or none: they must be the same.
 */
#ifndef HOST_SFD_GUEST_H
#define HOST_SFD_GUEST_H

#include "host/sfd/disk.h"
#include "host/sfd/peers.h"
#include "host/sfd/vm.h"
#include "proto/kmod.h"
#include "proto/xenstore-tree.h"

struct control;
struct freeze;
struct guest_console;
struct image;
struct request;
struct stream;
struct ticket_wish;

#define GUEST_MAX_TICKETS     32
#define GUEST_MAX_CHECKPOINTS 16
#define GUEST_MAX_RECORDS     1000 /* clone operations on record */

/* A disk at an instant: a snapshot of its own, for clones on other hosts; layers, for those here. */
struct instant_disk {
	unsigned file;
	uint64_t snapshot;
	uint8_t key[MEMTAP_KEY_BYTES];
	struct route route;
	struct disk_stack stack;
};

struct instant {
	struct guest *guest;
	unsigned refs;
	unsigned file;	   /* the snapshot */
	uint64_t snapshot; /* its number on the wire */
	uint64_t quiesce;  /* the number by which the agent got quiet */
	uint8_t key[MEMTAP_KEY_BYTES];
	struct route route; /* members are those of the tickets that began here */
	uint8_t *descriptor;
	size_t descriptor_bytes;
	uint8_t *xs_state;
	size_t xs_bytes;
	const char *verb;
	char request[SF_XS_KEY_MAX + 1]; /* answered in every clone */
	unsigned checkpoint;		 /* 0: none */
	json_t *cancel;			 /* requests that were open at the instant */
	json_t *streams;		 /* commands that ran */
	/* If the kernel module held the guest, else 0: */
	struct agent_window window;
	struct sfk_window head; /* what it said there */
	uint64_t *dead;		/* bits, by page */
	size_t dead_bytes;
	uint64_t dead_pages;
	unsigned disk_count;
	struct instant_disk disks[VMM_MAX_DISKS];
	double disk_ms; /* what freezing them took; negative: there is none */
};

enum ticket_state { TICKET_RESERVING, TICKET_GRANTED, TICKET_RUNNING, TICKET_DONE };

/* A clone as its home sees it. */
struct child {
	struct host *host;
	uint16_t pages_port; /* of its memtap there, */
	uint16_t disk_ports[VMM_MAX_DISKS]; /* of those of the disks */
	unsigned slot, serial;
	const char *state; /* SF_CLONE_… */
	bool ended;
	int status;
	char reason[WHY_BYTES];
	double running_ms, answered_ms; /* negative: not yet */
	uint64_t faults, pages_fetched, bytes_fetched;
	uint8_t *result;
	size_t result_bytes, result_room;
};

struct ticket {
	struct guest *guest;
	unsigned number;
	enum ticket_state state;
	unsigned asked, min, per_host;
	struct agent_window window;	/* that its clones are prepared for */
	char request[SF_XS_KEY_MAX + 1]; /* of the ticket, then of the create */
	uint64_t asked_ns, ticket_ns;
	unsigned reserving; /* hosts that have not answered yet */
	char why[WHY_BYTES];
	struct child *children; /* [id - 1] */
	unsigned count, running;
	struct instant *instant;
	unsigned op;		     /* number of the clone operation, from 1 */
	uint64_t start_ns, ended_ns; /* of the operation; of the last end that home heard of */
	double join_ms;		     /* negative: not joined yet */
	double pause_ms;
	double exit_ms; /* what the last exit took on the clone's host */
	json_t *record;
	LIST_ENTRY(ticket) entry;
};

struct checkpoint {
	unsigned number;
	struct instant *instant;
	LIST_ENTRY(checkpoint) entry;
};

/* A request of libsf's that is not answered yet. */
struct pending {
	char key[SF_XS_KEY_MAX + 1];
	LIST_ENTRY(pending) entry;
};

struct guest {
	struct vm vm;
	unsigned number;
	char name[64];
	int ram_fd;
	bool agent;		       /* one is expected; or else … */
	struct guest_console *console; /* … this is seen of it */
	struct image *images[VMM_MAX_DISKS];
	struct agent_window window; /* 0 pages: no kernel module */
	struct control *owner; /* who booted it and waits */
	json_t *boot_request;
	struct event *boot_limit;
	bool hello, up, dying;
	LIST_HEAD(, ticket) tickets;
	LIST_HEAD(, checkpoint) checkpoints;
	LIST_HEAD(, pending) pending;
	unsigned pending_count, next_ticket, next_checkpoint, next_op, next_serial;
	uint8_t *slots;	       /* [FAMILY_MAX_SLOT + 1], 1: taken */
	struct freeze *freeze; /* under way */
	LIST_HEAD(, stream) streams;
	uint32_t next_stream;
	json_t *records; /* of operations whose ticket is gone, and of all others */
	struct control *watcher;
	LIST_ENTRY(guest) entry;
};

/* What a boot wants. */
struct guest_wish {
	uint64_t mem_bytes;
	unsigned cpus;
	bool ipv6;
	const char *name, *kernel, *initrd; /* or NULL */
	const char *append;		    /* options for the kernel */
	bool agent;			    /* it is up when its agent is; or else when QEMU runs */
	unsigned disk_count;
	struct image *images[VMM_MAX_DISKS]; /* borrowed for the call */
};

/*
 * Boots one; `request` of `owner` is answered when it is up. Without an agent, what its console
 * prints goes to `owner`. Return: 0 or -errno with a sentence.
 */
int guest_boot(struct daemon *d, const struct guest_wish *wish, struct control *owner,
	       json_t *request, char why[WHY_BYTES]);

/*
 * Ends it and all that came of it, everywhere. `why`, if there is one, is told to who booted it.
 * Never in a callback of the VM's own. `gone`: nothing of it is left on any host that is up.
 */
void guest_destroy(struct guest *g, const char *why);
void guest_destroy_then(struct guest *g, const char *why, void (*gone)(void *arg), void *arg);

/* "<host>.<number>", or NULL. */
struct guest *guest_find(struct daemon *d, const char *id);
struct guest *guest_number(struct daemon *d, unsigned number);

/* The owner or watcher is gone. */
void guest_control_lost(struct daemon *d, struct control *control);

/* Its memtap cannot be kept alive. */
void guest_family_failed(struct family *f);

/* ---- guest_event.c: from the clones' hosts (proto/peer.h) ---- */

void guest_clone_running(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
			 size_t len);
void guest_clone_result(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
			size_t len);
void guest_clone_ended(struct daemon *d, struct host *from, json_t *msg, const uint8_t *bytes,
		       size_t len);
/* A host is lost: so are its clones. */
void guest_host_lost(struct daemon *d, struct host *host);
void guest_output(struct daemon *d, struct peer_request *r, json_t *msg, const uint8_t *bytes,
		  size_t len);

/* The instant of a guest with that snapshot; NULL if it is not there. */
struct instant *guest_instant(struct guest *g, uint64_t snapshot);

/* The number of a guest's ticket; NULL if it is not there. */
struct ticket *guest_ticket(struct guest *g, unsigned number);

/* Tells whoever watches the guest; takes the reference. */
void guest_tell(struct guest *g, json_t *event);

/* ---- guest_request.c ---- */

/* For its struct vm_kind. */
void guest_request(struct vm *vm, const char *key, const struct request *request);
/* A request is answered: forget it. */
void guest_settle(struct guest *g, const char *key);

/* ---- ticket.c, ticket_run.c ---- */

/* Asks the hosts for clones; answers request `key`. */
void ticket_request(struct guest *g, const char *key, const struct ticket_wish *wish);
/* Starts the ticket's clones from an instant (a reference is taken). */
void ticket_start(struct ticket *t, struct instant *instant, uint64_t start_ns, double pause_ms);
/* Ends what is left of its clones, all or one. */
void ticket_kill(struct ticket *t, unsigned id);
/* The guest is back from sf_join(). */
void ticket_joined(struct ticket *t);
/* Gives everything of it back. */
void ticket_release(struct ticket *t);
/* Clone `id` ended; takes note, tells the guest once its result is stored. */
void ticket_child_ended(struct ticket *t, unsigned id, const char *state);
/* Its result is with the guest. */
void ticket_child_stored(struct ticket *t, unsigned id);
/* Its vCPUs run; it reached the parent over their network. */
void ticket_running(struct ticket *t, unsigned id);
void ticket_answered(struct ticket *t, unsigned id);
/* Its result is not wanted any more. */
void child_drop_result(struct daemon *d, struct child *c);
void ticket_host_lost(struct ticket *t, struct host *host);
/* The record of its operation (README), a new reference; NULL before one. */
json_t *ticket_record(const struct ticket *t);

/* ---- instant.c ---- */

/* A new one. A local share of the ticket gives its page file. Return: NULL with errno. */
struct instant *instant_new(struct guest *g, struct ticket *ticket, const char *key);
struct instant *instant_get(struct instant *i);
void instant_put(struct instant *i);
/* Keeps it as the checkpoint it was made for, and answers the request. */
void instant_keep(struct instant *i);
/* Return: true if the ticket's clones can begin there. */
bool instant_fits(const struct instant *i, const struct ticket *t);

/* ---- freeze.c ---- */

/* `ticket`: clone now; NULL: keep a checkpoint. Answers request `key`. */
void freeze_begin(struct guest *g, const char *key, struct ticket *ticket);
/* The agent said it is quiet; or more of XenStore's stream came. */
void freeze_quiesced(struct guest *g, const struct agent_quiesce *q);
void freeze_received(struct guest *g);
void freeze_cancel(struct guest *g);
/* The agent that was to get quiet is not there any more. */
void freeze_agent_lost(struct guest *g);
/* The ticket of the clone operation under way, or NULL. */
struct ticket *freeze_ticket(const struct guest *g);
/* The guest rang. */
void freeze_doorbell(struct guest *g);

/* ---- stream.c ---- */

struct stream *stream_find(struct guest *g, uint32_t number);
/* Begins a command or a file for a control connection. Return: the stream's number, or 0. */
uint32_t stream_begin(struct guest *g, struct control *control, bool command);
/* Sends a clone's result to the guest; calls ticket_child_stored() at the end. */
void stream_result(struct guest *g, unsigned ticket, unsigned id, const uint8_t *bytes, size_t len);
void stream_frame(struct guest *g, const struct agent_frame *f, const void *payload);
void stream_clear(struct guest *g);
/* The agent was started again: what it had under way is over. */
void stream_agent_lost(struct guest *g);
/* sfctl has room again for a channel of a command. */
void stream_credit(struct stream *s, unsigned channel, uint32_t bytes);
/* The control connection is gone: its streams have nobody. */
void stream_control_lost(struct guest *g, struct control *control);
/* The commands that run, as a JSON array of numbers. */
json_t *stream_list(struct guest *g);
struct control *stream_control(struct stream *s);

#endif
