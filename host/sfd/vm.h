/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One VM on this host, booted or cloned: its QEMU, its port on the segment, the two channels into
 * it, its XenStore. What is different between the two kinds is behind struct vm_kind.
 */
#ifndef HOST_SFD_VM_H
#define HOST_SFD_VM_H

#include "host/sfd/agent_port.h"
#include "host/sfd/daemon.h"
#include "host/sfd/disk.h"
#include "host/sfd/family.h"
#include "host/sfd/xs_server.h"
#include "host/vmm/vmm.h"

struct bufferevent;
struct request;
struct vm;

struct vm_kind {
	/* As struct vmm_events says; `uffd` is the receiver's. */
	void (*ram_mapped)(struct vm *vm, int uffd, uint64_t base);
	void (*ready)(struct vm *vm);
	/* QEMU, the agent or XenStore is no more, by no wish of ours. */
	void (*ended)(struct vm *vm, const char *why);
	void (*frame)(struct vm *vm, const struct agent_frame *frame, const void *payload);
	/* Optional: more of the guest's XenStore stream was taken in. */
	void (*received)(struct vm *vm);
	/* Optional: the guest rang (proto/kmod.h). */
	void (*doorbell)(struct vm *vm);
	/* The guest asked something, under a valid key. */
	void (*request)(struct vm *vm, const char *key, const struct request *request);
};

struct vm {
	struct daemon *daemon;
	struct family *family;
	const struct vm_kind *kind;
	char name[128];
	unsigned slot;
	uint8_t mac[VNET_MAC_BYTES];
	uint64_t charge; /* of the host's memory, taken */
	uint64_t started_ns;
	uid_t uid;
	struct vmm *vmm;
	struct disk *disks[VMM_MAX_DISKS]; /* as many as the family has */
	struct xs_server *xs;
	struct bufferevent *xs_io;
	struct agent_port *agent;
	struct event *closed; /* a channel ended before QEMU did */
	bool ended;
	uint64_t rate_second; /* the second in which … */
	unsigned rate_count;  /* … this many requests came */
	char why[WHY_BYTES];  /* of its uninvited end */
};

/* What vm_start() needs to know beyond the family. */
struct vm_plan {
	const struct vm_kind *kind;
	unsigned slot;
	bool clone;
	int ram_fd;		     /* borrowed */
	int window_fd;		     /* a clone's, borrowed; -1: none */
	struct agent_window window;  /* where it lies */
	const char *kernel, *initrd; /* NULL: the guest image's, or from its disk */
	const char *append;	     /* options for the kernel; NULL: none */
	int console_fd;		     /* its console as well, borrowed; -1: the log alone */
	uint64_t charge;
};

/*
 * Its disks are there then, and stand on nothing yet. Return: 0, or -errno with a sentence and
 * nothing left behind.
 */
int vm_start(struct vm *vm, struct family *f, const struct vm_plan *plan, char why[WHY_BYTES]);

/* Ends it and gives everything back. No callback of its kind follows. */
void vm_stop(struct vm *vm);

/* Its disks, as a JSON array. */
json_t *vm_describe_disks(const struct vm *vm);

/* It is of no use any more: its kind's `ended` is called, unless that was done before. */
void vm_fail(struct vm *vm, const char *why);

/* A fresh XenStore, or one restored from a parent's state. Return: 0 or -errno. */
int vm_xs_create(struct vm *vm);
int vm_xs_restore(struct vm *vm, const uint8_t *state, size_t len);

/*
 * Who the VM is, for its agent: `resume` has op, id, count and, for a clone, what made it; the rest
 * is filled in here. vm_resume() sends it, too.
 */
void vm_identity(const struct vm *vm, struct agent_resume *resume);
void vm_resume(struct vm *vm, struct agent_resume *resume);

/* Writes the answer to a request of libsf's (proto/xenstore-tree.h). */
void vm_answer(struct vm *vm, const char *key, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for an error: "error ENOSPC sentence". */
void vm_answer_error(struct vm *vm, const char *key, int error, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
