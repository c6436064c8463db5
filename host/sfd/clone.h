/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clone on this host, and a lot: a ticket's share of this host. A clone goes through
 *
 *   PREPARING  QEMU starts, its memory goes into memtap's care     reserve
 *   WAITING    stands ready                                         → start
 *   LOADING    takes the descriptor                                 → running, kill
 *   RUNNING    vCPUs run                                            → exit, kill
 *   LEAVING    ended; counters and result on their way home
 *   GONE       nothing left but its place in the lot
 *
 * PREPARING, LOADING and LEAVING have a limit of time. An end that comes from inside the VM's own
 * callbacks is only noted there; the loop does the rest, by `turn`.
 */
#ifndef HOST_SFD_CLONE_H
#define HOST_SFD_CLONE_H

#include "host/sfd/family.h"
#include "host/sfd/peers.h"
#include "host/sfd/start.h"
#include "host/sfd/vm.h"

struct evbuffer;
struct instant;
struct output;

enum clone_state {
	CLONE_PREPARING,
	CLONE_WAITING,
	CLONE_LOADING,
	CLONE_RUNNING,
	CLONE_LEAVING,
	CLONE_GONE
};

struct clone {
	struct vm vm;
	struct lot *lot;
	enum clone_state state;
	struct event *turn;  /* its end was noted, or its time is over */
	unsigned id, serial; /* 0 before the start */
	uint32_t pager_vm;
	bool in_pager;
	struct clone_disk {
		struct clone *clone;
		uint32_t pager_vm;
		bool in_pager;
	} disks[VMM_MAX_DISKS]; /* the same, in the disks' memtaps */
	unsigned waiting;	/* PREPARING: for its QEMU, its disks */
	int window_fd; /* until its letter is written; -1: none */
	/* clone_io.c: */
	uint32_t streams[AGENT_MAX_STREAMS]; /* commands it inherited that still run */
	unsigned stream_count;
	struct event *exiting; /* it called sf_exit(): its last output is on the way */
	uint64_t output_bytes; /* on their way home */
	uint32_t result_stream;
	uint64_t result_length;
	struct evbuffer *result; /* NULL: it set none */
	uint64_t result_charge;	 /* of the host's memory, taken */
	bool result_whole;
	/* how it ended: */
	const char *end; /* SF_CLONE_… */
	int status;
	char reason[WHY_BYTES];
	uint64_t end_ns;
	LIST_ENTRY(clone) entry;
};

struct lot {
	struct family *family;
	unsigned ticket;
	int file;
	unsigned disk_files[VMM_MAX_DISKS], disk_file_count; /* on other hosts than home */
	struct agent_window window; /* of its clones; 0 pages: none */
	bool started;
	struct peer_request *reserving; /* answered when nobody prepares any more */
	unsigned preparing;
	unsigned *slots, slot_count, slot_next; /* to be prepared, one at a turn of the loop */
	struct event *turn;
	char why[WHY_BYTES]; /* of the last that could not */
	LIST_HEAD(, clone) clones;
	LIST_ENTRY(lot) entry;
};

/* ---- clone.c ---- */

/* Begins with a clone in this slot; counts in lot->preparing if that went well. */
void clone_prepare(struct lot *lot, unsigned slot);

/*
 * It is clone `as`: loads the descriptor in `fd`, with its letter in its window if the guest was
 * held; then clone_identify() gives it its own XenStore. `instant`: what its disks stand on, at
 * home; elsewhere NULL, they inherit.
 */
void clone_load(struct clone *c, const struct start *s, const struct start_clone *as,
		const struct instant *instant, int fd);

/* It ended so: tells its home with all it has to know, then takes it away. Safe in any callback. */
void clone_leave(struct clone *c, const char *end, int status, const char *reason);

/* Takes the VM away, keeps the place. Not in callbacks of this clone. */
void clone_clear(struct clone *c);

/* Takes the place too. */
void clone_free(struct clone *c);

/* ---- clone_identity.c ---- */

/* Its letter, if the guest was held: to be there when the clone looks. Return: 0 or -errno. */
int clone_post(struct clone *c, const struct start *s);
/* Its own XenStore, and a frame to its agent if there is no letter. */
void clone_identify(struct clone *c, const struct start *s);

/* ---- clone_io.c ---- */

/* Frames and requests of the VM, for its struct vm_kind. */
void clone_frame(struct vm *vm, const struct agent_frame *f, const void *payload);
void clone_request(struct vm *vm, const char *key, const struct request *request);

/* Its result goes home, if it has one; nothing of its traffic is left here. */
void clone_send_result(struct clone *c);
void clone_io_clear(struct clone *c);

/* ---- lot.c ---- */

/* Return: NULL if there is none. */
struct lot *lot_find(struct family *f, unsigned ticket);

/* A new one, with a page file. Return: NULL with errno. */
struct lot *lot_create(struct family *f, unsigned ticket, const struct agent_window *window);

/* Prepares clones in these slots (taken over), then answers `r`. */
void lot_reserve(struct lot *lot, unsigned *slots, unsigned count, struct peer_request *r);

/* One of its clones is ready or will never be. May free the lot, if it comes to nothing. */
void lot_prepared(struct lot *lot);

struct clone *lot_clone(struct lot *lot, unsigned id);
void lot_free(struct lot *lot);

#endif
