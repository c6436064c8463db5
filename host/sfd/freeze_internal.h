/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What freeze.c (the order of things) and freeze_hold.c (the kernel module's part) share. */
#ifndef HOST_SFD_FREEZE_INTERNAL_H
#define HOST_SFD_FREEZE_INTERNAL_H

#include "host/sfd/guest.h"

struct event;

enum freeze_stage {
	FREEZE_QUIET,
	FREEZE_HOLDING,
	FREEZE_SAVING,
	FREEZE_ARMING,
	FREEZE_CONTINUING
};

struct freeze {
	struct guest *guest;
	enum freeze_stage stage;
	struct ticket *ticket; /* NULL: a checkpoint */
	struct instant *instant;
	uint64_t op;
	uint64_t start_ns;
	uint64_t agent_sent; /* XenStore bytes the quiet agent says it sent */
	bool quiesced;
	struct agent_window window; /* the agent says the module holds next; 0 pages: it does not */
	uint64_t rung_ns;	    /* when it rang, or 0 */
	bool waited;		    /* it was stopped too early once, … */
	uint64_t earlier_ns;	    /* … and stood still that long */
	bool held;		    /* it is told to go on by a letter */
	bool agent_lost;
	int descriptor_fd;
	unsigned arming;   /* answers that are missing: memtap's, each disk's */
	unsigned freezing; /* of these: disks' */
	uint64_t arm_ns;
	struct event *limit;
	int error; /* the guest goes on, but there is no instant */
	char why[WHY_BYTES];
};

/* There will be no instant. The first reason is the one that counts. */
void freeze_error(struct freeze *z, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The agent is quiet and says what it does next: is that what the ticket's clones are made for? */
void hold_expect(struct freeze *z, const struct agent_quiesce *q);

/* Return: true if the module holds the guest by now. */
bool hold_reached(const struct freeze *z);

/*
 * The VM is stopped: takes what its window says into the instant, and notes in z->held that a
 * letter is waited for. Return: a memfd with the dead pages for sf-memtap, the caller's to close;
 * -1 if the guest was not held, or with freeze_error().
 */
int hold_take(struct freeze *z);

/* Writes the letter that lets the guest go on, `count` clones made. Return: 0 or -errno. */
int hold_release(struct freeze *z, unsigned count);

/* It runs again. Return: for how long it stood still, ms, which goes into the log as well. */
double hold_pause_ms(const struct freeze *z);

#endif
