/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memtap: pages for clones, from wherever they are.
 *
 * A clone's access to a page that is not there stops its vCPU in the kernel, which tells us by the
 * clone's userfaultfd. The way from there to the vCPU going on:
 *
 *   clones.c      reads the fault
 *   window.c      is the page in the clone's window, or freed by it? Then no source is needed
 *   faults.c      is the page in the clone's page file by now? Then wake. Else ask its source,
 *                 and remember who waits
 *   files.c       the sources: the parent's memory here (host/snapshot), a disk's layers here
 *                 (layers.c), another snapshot here, another host (host/mcdist)
 *   faults.c      the page is here: into the page file
 *   answers.c     wake who waits, or give zeros, of these more than one page
 *
 * On the parent's host there are besides:
 *
 *   host/snapshot the parent's first writes, each let through when the old page is kept
 *   background.c  protecting ahead of a clone, the sweep, handing down
 *   wake.c        what clones need at first, given to the next ones before they ask
 *
 * control.c is sfd's voice (proto/memtap.h). One thread, one libevent loop; the invariants of
 * host/snapshot/snapshot.h rest on that.
 */
#ifndef MEMTAP_MEMTAP_H
#define MEMTAP_MEMTAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "host/mcdist/mcdist.h"
#include "host/mcdist/udp.h"
#include "host/memtap/times.h"
#include "host/memtap/window.h"
#include "host/snapshot/snapshot.h"
#include "proto/memtap.h"

struct event;
struct event_base;
struct mem_layers;

/* What is counted for each clone. */
struct mem_counters {
	uint64_t faults;
	uint64_t pages_fetched, bytes_fetched;
	uint64_t pages_local;
	uint64_t pages_zero;
	uint64_t pages_dead;
	uint64_t retries;
	struct mem_times times;		/* remote faults */
};

/*
 * The source of a page file, which is its state as well:
 *
 *   MEM_WAITING → MEM_SNAPSHOT → MEM_RETIRING → MEM_RETIRED → (gone)
 *        │            └───────────────────────────────────────────┐
 *        └──────→ MEM_LOCAL | MEM_REMOTE ─────────────────────→ (gone)
 */
enum mem_source {
	MEM_WAITING,	/* none yet: faults wait */
	MEM_SNAPSHOT,	/* it is a snapshot of the parent on this host, or of a disk here */
	MEM_LOCAL,	/* filled from a snapshot on this host */
	MEM_REMOTE,	/* filled from another host */
	MEM_RETIRING,	/* a snapshot that hands its pages down */
	MEM_RETIRED,	/* it has; only the number is left, until sfd asks again */
	MEM_SOURCES
};

#define MEM_FAULT_BUCKETS 1024u

/* Pages of a file that somebody waits for or that are on their way: gfn → struct mem_fault. */
struct mem_faults {
	LIST_HEAD(, mem_fault) buckets[MEM_FAULT_BUCKETS];
};

/*
 * Somebody reads the file's pages in a row: those below `until` have been asked for. When the pages
 * from `mark` on are used, as many as were asked for last are asked for twice.
 */
struct mem_row {
	uint64_t mark, until;
	unsigned pages;			/* 0: there is none */
};

#define MEM_ROWS 16u

struct mem_file {
	LIST_ENTRY(mem_file) link;
	struct memtap *m;
	uint32_t number;
	enum mem_source source;
	struct snap_file *pages;	/* NULL when MEM_RETIRED */
	struct snap *snap;		/* MEM_SNAPSHOT, MEM_RETIRING; of a disk: NULL, and */
	struct mem_layers *layers;	/* MEM_SNAPSHOT, of a disk: what it is made of */
	struct mc_server *server;	/* MEM_SNAPSHOT */
	struct mem_file *other;		/* MEM_LOCAL */
	struct mc_fetch *fetch;		/* MEM_REMOTE */
	uint64_t lacking;		/* MEM_REMOTE: pages that are absent */
	bool pushed;			/* MEM_REMOTE: the source has sent all there is */
	bool completing;		/* all that is lacking is wanted, */
	uint64_t complete_gfn;		/* those below have been looked at, */
	unsigned completing_pages;	/* and so many are on their way */
	unsigned users;			/* clones that map it, and files whose `other` it is */
	struct mem_faults faults;
	struct mem_row rows[MEM_ROWS];
	unsigned next_row;		/* the oldest */
	struct mem_record *record;	/* MEM_SNAPSHOT: what its clones need at first; or NULL */
	bool recorded;			/* there is or was one */
	bool wake_given;		/* its clones got what was on the list */
	bool wake_begun;		/* to copy the list for clones here, */
	size_t wake_filled;		/* and how far */
};

struct mem_clone {
	LIST_ENTRY(mem_clone) link;
	struct memtap *m;
	uint32_t vm;
	struct mem_file *file;
	struct snap_uffd uffd;
	struct mem_window window;
	uint64_t *filled;		/* bit per page: answers.c has put memory there */
	struct event *readable;
	LIST_HEAD(, mem_waiter) waits;
	struct mem_counters counters;
};

struct mem_background {
	struct event *work;	/* made active while there is some */
	struct event *sweep;	/* timer */
	struct event *retry;	/* timer: memory was short */
	uint32_t sweep_pages_per_s;
	uint64_t swept_ns;	/* until when the sweep is paid */
};

struct memtap {
	struct event_base *base;
	uint64_t pages;			/* of the guest's RAM; 0: MEMTAP_INIT has not come */
	bool restating;			/* everything is being said again, and not all has come */
	uint64_t awake_ns;		/* until then memtap_run() looks instead of sleeping, */
	uint64_t busy_ns;		/* but not until then: others want the processor; */
	uint64_t busy_for_ns;		/* and it was taken for so long that they do */
	struct mc_transport *transport;
	struct mc_endpoint *endpoint;
	struct snap_parent *parent;
	struct event *parent_readable;
	struct mem_background background;
	struct mem_wake *wake;		/* what clones of the parent need at first; or NULL */
	LIST_HEAD(, mem_file) files;
	unsigned file_count;
	LIST_HEAD(, mem_clone) clones;
	unsigned clone_count;
	struct mem_counters gone;	/* of clones that ended, and pages that came for none */
	struct mc_counters net;
	struct snap_counters kept;
};

#define MEM_PRIORITIES 3
#define MEM_PRIORITY_BACKGROUND 2	/* everything else has libevent's default, the middle */

/* ── memtap.c: the whole ── */

/* Return: a memtap that waits for MEMTAP_INIT, the caller's to destroy; or NULL (errno). */
struct memtap *memtap_create(void);
void memtap_destroy(struct memtap *m);

/* Does all that is to be done until sfd lets go. */
void memtap_run(struct memtap *m);

/*
 * What somebody waits for will come, or be asked for, in a moment: for that long it is looked for
 * without sleeping, since to be woken takes longer than the rest of a fault.
 */
void memtap_expect(struct memtap *m);

/*
 * MEMTAP_INIT. Takes the sockets (of groups: -1 if none) over if it works. `again`:
 * much has been said to a predecessor and will be said now; until memtap_resume() nothing is
 * decided that needs all of it. Return: 0 or -errno.
 */
int memtap_init(struct memtap *m, uint64_t bytes, const int socks[2], uint32_t sweep_pages_per_s,
		bool again);
void memtap_resume(struct memtap *m);

/* MEMTAP_PARENT. Takes the descriptors over if it works. Return: 0 or -errno. */
int memtap_attach_parent(struct memtap *m, int uffd, int ram_fd, uint64_t base);

/* Fills in everything but `head`, of one clone (NULL: all there ever were). */
void memtap_stats(const struct memtap *m, const struct mem_clone *clone,
		  struct memtap_stats *stats);

/* ── files.c: page files and their sources ── */

struct mem_file *mem_file_find(struct memtap *m, uint32_t number);

/* Takes its descriptors over if it works. Return: 0 or -errno. */
int mem_file_create(struct memtap *m, uint32_t number, int page_fd, int map_fd);

/* Where the pages of a snapshot come from, or go to, over the network, and how. */
struct mem_wire {
	const struct memtap_request *request;
	const struct memtap_source *places;	/* request->nodes */
};

/*
 * The file gets its source, and its dead pages (a bit for each page; NULL: none). Return: 0 or
 * -errno, and then nothing has changed.
 */
int mem_file_freeze(struct mem_file *file, const struct mem_wire *wire, const uint64_t *dead,
		    bool again);
/* A snapshot of a disk; takes `layers` over if it works. */
int mem_file_freeze_disk(struct mem_file *file, const struct mem_wire *wire,
			 struct mem_layers *layers);
int mem_file_begin(struct mem_file *file, const struct mem_wire *wire, const uint64_t *dead);
int mem_file_begin_local(struct mem_file *file, struct mem_file *other, const uint64_t *dead);

/* MEMTAP_FILE_GONE. Return: 0; -EINPROGRESS while it has users or hands down. */
int mem_file_release(struct mem_file *file);

/* Whatever it is doing. For memtap_destroy(), after the clones. */
void mem_file_destroy(struct mem_file *file);

/*
 * An absent page, if its source gives it at once: it is put in. Return: its new state; PAGE_ABSENT
 * if the source takes its time; -EAGAIN if there is no source yet; -errno (memory is short).
 */
int mem_file_get_now(struct mem_file *file, uint64_t gfn);

/* ── clones.c ── */

struct mem_clone *mem_clone_find(struct memtap *m, uint32_t vm);

/*
 * MEMTAP_CLONE. Takes the userfaultfd and the window (no pages: none) over if it works. Return: 0
 * or -errno.
 */
int mem_clone_create(struct mem_file *file, uint32_t vm, int uffd, uint64_t base,
		     const struct mem_window *window);
void mem_clone_destroy(struct mem_clone *clone);

/* ── answers.c ── */

/* A page as this clone is to see it: its file's state, or dead by its own window. */
enum page_state mem_clone_state(const struct mem_clone *clone, uint64_t gfn);

/*
 * Lets the clone go on: the page is in its file or to be zeros, as those behind it may be. Return:
 * 0 or -errno.
 */
int mem_clone_answer(struct mem_clone *clone, const struct snap_fault *fault,
		     enum page_state state);

/* ── faults.c ── */

void mem_faults_init(struct mem_faults *faults);

/* A clone needs a page. */
void mem_fault(struct mem_clone *clone, const struct snap_fault *fault);

/* A page came from another host; an mc_arrived of a mem_file. */
void mem_faults_arrived(void *file, const struct mc_arrival *arrival);

/* Others want pages of the file that are not here. */
void mem_faults_asked(void *file, const struct mc_span *span);

/* All that is lacking is wanted from here on, some of it at a time. */
void mem_faults_complete(void *file);

/* Asks (again) for all that waits and is not on its way. */
void mem_faults_ask(struct mem_file *file);

/* The clone waits for nothing any more. */
void mem_faults_drop_clone(struct mem_clone *clone);

/* Nobody waits for any page of the file any more. */
void mem_faults_drop(struct mem_file *file);

/* ── wake.c ── */

/* A clone of a snapshot (or of a file that is filled from one) needs a page. */
void mem_wake_needed(struct mem_file *file, uint64_t gfn);

/* The file is about to go. */
void mem_wake_forget(struct mem_file *file);

/* What clones of a snapshot elsewhere will need first. Return: how many spans, borrowed. */
size_t mem_wake_spans(struct mem_file *file, const struct mc_span **spans);

/*
 * Copies some of what clones here will need first. Return: 1 if there is more, 0 if not, -errno if
 * it cannot go on just now.
 */
int mem_wake_fill(struct memtap *m);

/* ── background.c ── */

/* Return: 0 or -ENOMEM. */
int mem_background_init(struct memtap *m, uint32_t sweep_pages_per_s);
void mem_background_fini(struct memtap *m);

/* Something may have come up to do. */
void mem_background_kick(struct memtap *m);

/* The parent was frozen: its clones wake up now and need this process and the processors. The sweep,
 * which nobody waits for, begins a second later. */
void mem_background_rest(struct memtap *m);

/* Memory was short somewhere: everything that waits for it is tried again in a while. */
void mem_background_retry(struct memtap *m);

#endif
