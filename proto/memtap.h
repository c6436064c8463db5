/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfd → memtap: what to keep, what to serve, for whom.
 *
 * One memtap process per family of clones (a VM that was booted and everything cloned from it) and
 * host, and one more for each of its disks, to which the disk is what RAM is to the first: "RAM" below
 * means either. It owns nothing that must outlive it: every descriptor it works on is kept by sfd as well,
 * so when memtap dies sfd starts another one, says the same things again in the same order with
 * MEMTAP_F_AGAIN set, and the clones have waited for a moment. The first message without that flag
 * ends the repetition: until it comes the parent's writes and pages that only its RAM has wait,
 * because a snapshot not yet named could lose pages to them. If sfd has nothing else to say it says
 * MEMTAP_STATS.
 *
 * Transport: an inherited SOCK_SEQPACKET pair (descriptor number in argv[1]), one message each way
 * per packet, descriptors as SCM_RIGHTS. sfd speaks first and may have many requests under way;
 * memtap answers every request once, in order, with struct memtap_reply (except MEMTAP_STATS, whose
 * answer is struct memtap_stats). memtap ends when the socket closes. Host byte order throughout.
 * A message of the wrong size, or about a file, VM or address that does not exist, gets
 * error = EINVAL/ENOENT and changes nothing.
 *
 * The objects:
 *
 * page file   A memfd with the pages of one VM at one instant, sparse, plus a memfd with its map
 *             (one byte per page, enum page_state), both exactly as long as the guest's RAM says.
 *             On the parent's host it is the snapshot's store; on every host it is what clones map
 *             privately: "cache file". A page is put in at most once, atomically, by UFFDIO_COPY
 *             into memtap's own shared mapping; the map is set after the page is in.
 * source      Where a page comes from that is not there yet: nothing yet (faults wait), the parent
 *             in this very process (armed), or a page server across the network (struct
 *             memtap_source).
 * parent      The running VM, if it is on this host: RAM file, userfaultfd, address.
 * clone       A VM that maps a page file privately: its userfaultfd and address.
 * dead pages  A memfd with one bit for each page of the file, in little-endian 64-bit words: what
 *             the guest declared free at the instant. Where absent, they are PAGE_DEAD in the map
 *             from then on: never copied, asked for or sent. Read at once; after a restart the map
 *             has them. A memfd of another size gets EINVAL.
 * window      A clone's memory shared with us (proto/kmod.h). Its first page is missing until the
 *             clone looks at it: then memtap puts the memfd's last page in, with realtime_ns of the
 *             letter set to the time of that moment. The others, the bitmap, are there. A page that
 *             is absent and whose bit is set is given as zeros, to this clone alone.
 *
 * Dead pages and zeros are given in runs, up to MEMTAP_ZERO_RUN pages with one fault; to a clone that
 * writes as memory, in runs that grow as it goes on. So the first touch of memory that nobody used
 * costs no more than in a VM that was booted.
 *
 * The wake-up path. memtap at home remembers which pages of a snapshot clones asked for in its
 * first moments. At the next snapshot of the same parent they are sent to every host that begins,
 * without being asked for (push in proto/mcdist.h): while the descriptor loads.
 */
#ifndef PROTO_MEMTAP_H
#define PROTO_MEMTAP_H

#include <netinet/in.h>
#include <stdint.h>

#define MEMTAP_PAGE_BYTES 4096u
#define MEMTAP_MAX_RAM_BYTES (1ull << 42)
#define MEMTAP_KEY_BYTES 32
#define MEMTAP_MAX_FILES 256	/* page files at a time */
#define MEMTAP_MAX_CLONES 1024	/* clones at a time */
#define MEMTAP_ZERO_RUN 512	/* pages */
#define MEMTAP_MAX_LAYERS 64u

enum memtap_op {
	/*
	 * First message. fds: UDP socket (bound, non-blocking) for mcdist, shared by all snapshots
	 * of the family here; and, if any of them may travel by MC_MULTICAST, another UDP socket of
	 * the same network namespace, AF_INET, with SO_REUSEADDR, bound to the groups' port on
	 * INADDR_ANY or the one group: memtap joins groups with it, on the interface that has the
	 * address of the first. `bytes` = guest RAM. `arg` = background sweep rate in pages per
	 * second (0: no sweep). MEMTAP_F_AGAIN: a repetition follows, see above.
	 */
	MEMTAP_INIT = 1,
	/*
	 * The parent is on this host. fds: userfaultfd, RAM memfd. `base`, `bytes` of its mapping.
	 */
	MEMTAP_PARENT,
	/*
	 * A page file. fds: page memfd (ftruncated to RAM), map memfd (RAM/4096 bytes). `file` is
	 * its new number. On the parent's host memtap takes it as a hint that MEMTAP_ARM may
	 * follow, and begins to protect the parent's RAM while it runs: the earlier it comes, the
	 * shorter the pause.
	 */
	MEMTAP_FILE,
	/*
	 * Freeze the parent as it is now into `file`: write-protect all of its RAM; from here on
	 * `file` is a snapshot and serves requests that carry `key` and `snapshot`. The parent is
	 * stopped, and goes on when the reply is there. Earlier snapshots find pages that they
	 * lack in later ones. MEMTAP_F_AGAIN: it was frozen before (a restart); nothing is
	 * protected anew, order is the order of these messages. fds: none, or the dead pages, below.
	 */
	MEMTAP_ARM,
	/*
	 * `file` is to be filled from `source` (with `key`, `snapshot`); waiting faults go out
	 * now. fds: none, or the dead pages.
	 */
	MEMTAP_BEGIN,
	/*
	 * `file` is to be filled from snapshot `other`, a file of this same process (a checkpoint's
	 * clones on the parent's host). Waiting faults are answered now. fds: none, or the dead
	 * pages.
	 */
	MEMTAP_BEGIN_LOCAL,
	/*
	 * A clone maps `file`. fds: its userfaultfd; and its window, if it has one: a memfd of
	 * `window_pages` + 1 pages, of which all but the last are mapped over its RAM from page
	 * `window` on. `vm` its new number, `base`, `bytes`.
	 */
	MEMTAP_CLONE,
	/* Clone `vm` has ended. */
	MEMTAP_CLONE_GONE,
	/*
	 * Nobody here needs `file` any more. If an older snapshot still counts on it, its pages are
	 * handed down first: error = EINPROGRESS, as while clones map it or files are filled from
	 * it; sfd keeps the descriptors, and says this again until the answer is 0. Without any
	 * snapshot left the parent's protection is lifted.
	 */
	MEMTAP_FILE_GONE,
	/* Counters of clone `vm`, or of the whole process with vm = MEMTAP_ALL. */
	MEMTAP_STATS,
	/*
	 * As MEMTAP_ARM, for a disk: `file` is a snapshot of it, and its pages are in layers
	 * (proto/vdisk.h), frozen all of them. fds: behind the places the base, if `vm` is 1, then
	 * file and map of `arg` layers (0..MEMTAP_MAX_LAYERS) from the bottom up. A process that is
	 * told this has no parent.
	 */
	MEMTAP_LAYERS,
};

#define MEMTAP_F_AGAIN 1u	/* said before to a memtap that died */
#define MEMTAP_ALL UINT32_MAX

/* The state of a page in a page file's map. Bytes, so that they can be read while written. */
enum page_state {
	PAGE_ABSENT = 0,	/* not here: ask the source */
	PAGE_PRESENT = 1,	/* in the page memfd, whole */
	PAGE_ZERO = 2,		/* known to be all zeros: nothing in the memfd */
	PAGE_DEAD = 3,		/* free at this file's instant: zeros for who maps this file, and no
				   word about any other instant */
};

struct memtap_source {
	struct sockaddr_in6 addr;	/* page server; IPv4 as ::ffff:a.b.c.d; family 0: none */
};

struct memtap_request {
	uint32_t op;		/* enum memtap_op */
	uint32_t flags;		/* MEMTAP_F_… */
	uint32_t file;
	uint32_t other;
	uint32_t vm;
	uint32_t arg;
	uint64_t base;
	uint64_t bytes;
	uint64_t snapshot;	/* the snapshot's number on the wire, random */
	uint8_t key[MEMTAP_KEY_BYTES];
	struct memtap_source source;
	/*
	 * MEMTAP_ARM, MEMTAP_BEGIN: how pages travel. `node` of `nodes`: this host's place in the
	 * order of source and members (source: 0). fds get a memfd more, the first, with `nodes`
	 * struct memtap_source, if nodes is not 0: where each has its mcdist socket.
	 */
	uint32_t mode;		/* enum mc_mode of proto/mcdist.h */
	uint32_t node, nodes;
	uint32_t push_pages_per_s;	/* of all the rest; 0: only what was asked for or is near */
	uint32_t compress;	/* 1: LZ4 where it pays */
	struct memtap_source group;	/* MC_MULTICAST */
	uint32_t window_pages;	/* 0: none */
	uint64_t window;	/* the window's first page, as a page of the file */
};

struct memtap_reply {
	uint32_t op;		/* of the request */
	int32_t error;		/* 0 or an errno */
	uint64_t elapsed_ns;	/* what it took inside memtap */
};

struct memtap_stats {
	struct memtap_reply head;
	uint64_t faults;		/* userfaultfd events of the clone(s) */
	uint64_t pages_fetched;		/* over the network, ahead of these faults as well */
	uint64_t bytes_fetched;		/* payload of the datagrams that brought them */
	uint64_t pages_local;		/* from the parent's RAM on this host */
	uint64_t pages_zero;		/* found to be zeros */
	uint64_t pages_dead;		/* given as zeros ahead of need, or because the guest freed them */
	uint64_t retries;		/* requests sent again */
	uint64_t dropped;		/* datagrams refused: forged, replayed, cut, foreign */
	uint64_t fault_ns_median;	/* remote faults, event read → waiter woken */
	uint64_t fault_ns_p99;
	uint64_t parent_faults;		/* first writes of the parent to a protected page */
	uint64_t parent_copied;		/* pages kept, by first writes and the sweep */
	uint64_t served;		/* pages sent to other hosts: */
	uint64_t multicast;		/* of these to a group, */
	uint64_t pushed;		/* without being asked for, */
	uint64_t relayed;		/* from a page file that is filled itself, */
	uint64_t same;			/* as references, */
	uint64_t compressed;		/* by LZ4 */
	uint64_t lockstep;		/* pages asked for that were on their way to all already */
	uint64_t reports;		/* MC_REPORT sent and taken */
	uint32_t files;			/* that are filled from other hosts; */
	uint32_t complete;		/* of these lack nothing any more: no fault needs their source */
};

#endif
