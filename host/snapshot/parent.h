/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside host/snapshot: what a parent and its snapshots are made of. */
#ifndef SNAPSHOT_PARENT_H
#define SNAPSHOT_PARENT_H

#include <sys/queue.h>

#include "host/snapshot/snapshot.h"

/*
 * A snapshot is live (somebody reads it), or retiring (nobody does, but an older live one counts on
 * pages that it holds); then it is gone.
 */
struct snap {
	TAILQ_ENTRY(snap) link;
	struct snap_parent *parent;
	struct snap_file *file;
	bool retiring;
	uint64_t handed_gfn;	/* retiring: pages below are handed down */
	void (*done)(void *arg);
	void *done_arg;
};

TAILQ_HEAD(snap_chain, snap);

/* What the background does with the protection; at any time one of them. */
enum snap_task {
	SNAP_REST,	/* nothing */
	SNAP_PREPARE,	/* a snapshot is expected: protect */
	SNAP_LIFT,	/* no snapshot is left and none expected: take protection off */
};

struct snap_parent {
	struct snap_uffd uffd;		/* fd -1: the parent is not here */
	bool held;			/* the chain is not complete yet */
	int ram_fd;
	struct snap_chain chain;	/* oldest first */
	uint64_t *protected;		/* bit per page: surely protected (0: perhaps) */
	bool expected;
	enum snap_task task;
	uint64_t task_gfn;		/* how far the task is */
	uint64_t sweep_gfn;		/* pages below are swept for the newest live snapshot */
	struct snap_counters *counters;
};

/* The newest live snapshot, or NULL. */
struct snap *snap_newest(const struct snap_parent *parent);

/*
 * The live snapshot that a page must be put into before the parent may write it (invariant 2), or
 * NULL.
 */
struct snap *snap_lacking(const struct snap_parent *parent, uint64_t gfn);

/*
 * Sees to it that a page can be written by the parent without harm to a snapshot (invariant 2).
 * Return: 0 or -errno.
 */
int snap_keep(struct snap_parent *parent, uint64_t gfn);

/* Protects what is not surely protected in [gfn, end). Return: 0 or -errno. */
int snap_protect(struct snap_parent *parent, uint64_t gfn, uint64_t end);

/* Takes the protection off; the pages are kept already. Return: 0 or -errno. */
int snap_unprotect(struct snap_parent *parent, uint64_t gfn, uint64_t pages);

/* Starts or ends the background's task when the chain or the expectation has changed. */
void snap_choose_task(struct snap_parent *parent);

/*
 * Hands down some pages of retiring snapshots. Return: 1 if there may be more to do, 0, or -errno.
 */
int snap_hand_down(struct snap_parent *parent);

#endif
