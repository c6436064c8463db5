/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parent's memory, frozen in place: write-protect, first-write copies, the chain of snapshots.
 *
 * A parent runs on in its RAM while any number of its past instants stay readable. A snapshot holds
 * (in a page file) what has changed since, and what somebody asked for; everything else is found in
 * later snapshots or, if nobody wrote it since, in the RAM itself:
 *
 *      oldest live     …      newest live          RAM of the running parent
 *      [page file] → [page file] → [page file] → [ write-protected where no snapshot has it ]
 *
 * Invariants (all work is done by one thread, so nothing comes between two lines of code):
 *
 *  1. A page file *holds* a page that is present or zero in it. Of a live snapshot where a page is
 *     not dead we say that it *needs* the page.
 *  2. A page that the parent can write without our leave is held by the newest live snapshot that
 *     needs it or a later one, or no live snapshot needs it. The parent's write waits in the kernel
 *     until this thread takes the protection off, and this thread takes it off only then. So a page
 *     that is read from RAM cannot change while it is read.
 *  3. A page of snapshot s at its instant is zeros if it is dead in s; else the one in the first
 *     page file from s on that holds it; else the one in RAM. Only an absent page is ever put in,
 *     and always with that content.
 *  4. A page may be protected although nobody needs it to be (a clone asked for it before the
 *     parent wrote it, or it is dead). Then the parent's write needs no copy.
 *
 * Dead pages. The guest said at the instant of s that a page is free. That is a word about s alone:
 * an older snapshot may need what the page still contains then. So dead is not held: look-ups of
 * older snapshots pass over it, what is to be kept is put into the newest snapshot that needs it,
 * which is then an older one, and so is what is handed down. A dead page stays dead; it is never
 * put in, since clones that map the file may have been given zeros for it.
 *
 * Holes of the RAM memfd are pages of zeros. The kernel protects them like others (by PTE markers);
 * at the parent's first write it may fill the hole with zeros before it asks, which reads the same.
 *
 * What must not happen behind the protection: memory taken out of the parent's RAM file (balloon
 * with discard, free page reporting, fallocate), because no fault tells of it.
 */
#ifndef SNAPSHOT_SNAPSHOT_H
#define SNAPSHOT_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "host/snapshot/pagefile.h"

struct snap_parent;
struct snap;

struct snap_counters {
	uint64_t faults;	/* first writes of the parent to a protected page */
	uint64_t copied;	/* pages kept from the parent's RAM, zeros as well */
};

/*
 * Makes the chain of a VM of `pages` pages, without snapshots, the VM itself not (yet) here.
 * Return: the caller's to destroy, or NULL (errno).
 */
struct snap_parent *snap_parent_create(uint64_t pages, struct snap_counters *counters);

/* Forgets the chain and its snapshots (not their page files). Protection stays as it is. */
void snap_parent_destroy(struct snap_parent *parent);

/*
 * After a restart the chain is put together again from page files that another process filled.
 * Until it is complete nothing may be read from RAM and no write let through, or a snapshot not yet
 * added would lose pages. snap_parent_hold(), at once after creation, begins this time; it ends
 * with snap_parent_resume(). It does not matter when the parent is attached.
 */
void snap_parent_hold(struct snap_parent *parent);
void snap_parent_resume(struct snap_parent *parent);

/*
 * Says again that `file` is a snapshot, oldest first. Return: 0 and *snap; -EINVAL outside of that
 * time; -ENOMEM.
 */
int snap_add(struct snap_parent *parent, struct snap_file *file, struct snap **snap);

/*
 * The VM runs here: its userfaultfd and RAM memfd (taken over if it works), and where RAM is mapped
 * in it. Return: 0 or -errno; -EBUSY if it was here already.
 */
int snap_parent_attach(struct snap_parent *parent, int uffd, int ram_fd, uint64_t base);
bool snap_parent_attached(const struct snap_parent *parent);

/*
 * When the userfaultfd is readable: answers the parent's writes to protected pages. Return: 0;
 * -ENOMEM if pages could not be kept and their writers wait still: snap_parent_retry() later;
 * another -errno if the VM is gone.
 */
int snap_parent_serve(struct snap_parent *parent);
void snap_parent_retry(struct snap_parent *parent);

/*
 * A snapshot is to be expected soon (or not any more): protect in the background what is writable,
 * so that little is left to do while the parent stands still.
 */
void snap_parent_expect(struct snap_parent *parent, bool expected);

/*
 * Background work: whatever is most urgent of handing down, protecting what is expected to be
 * frozen, lifting protection that nobody needs. snap_parent_step() does some microseconds of it.
 * Return: 1 if there is more to do at once, 0 if not, or -errno if it cannot go on just now.
 */
int snap_parent_step(struct snap_parent *parent);

/*
 * The sweep: keeps up to `max_pages` (at most SNAP_SWEEP_PAGES at once) pages that the newest
 * snapshot lacks, and takes their protection off. Return: pages done; 0 if there is nothing to
 * sweep now; -errno if memory is short.
 */
#define SNAP_SWEEP_PAGES 64
int snap_parent_sweep(struct snap_parent *parent, unsigned max_pages);

/*
 * Freezes the parent, which stands still, into `file` (stays the caller's, and must outlive the
 * snapshot; dead pages are to be set before the parent goes on). Return: 0 and *snap, -ENXIO
 * without a parent, or -errno, and then nothing has changed.
 */
int snap_freeze(struct snap_parent *parent, struct snap_file *file, struct snap **snap);

/*
 * Reads a page as it was at the snapshot's instant, leaving everything as it is. Return:
 * PAGE_PRESENT (in `page`), PAGE_ZERO (`page` is zeros as well); -EAGAIN if only the RAM has it
 * and must not be read now; -errno.
 */
int snap_read(const struct snap *snap, uint64_t gfn, uint8_t page[SNAP_PAGE_BYTES]);

/*
 * Puts a page into the snapshot's page file if it is absent. Return: its state there (PAGE_DEAD as
 * well), or as snap_read().
 */
int snap_fill(struct snap *snap, uint64_t gfn);

/*
 * Nobody reads this snapshot itself any more. Return: true if it is gone (freed). False if an older
 * one counts on it: snap_parent_step() hands its pages down, then calls done(arg), and it is gone.
 */
bool snap_retire(struct snap *snap, void (*done)(void *arg), void *arg);

#endif
