/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's kernel module ↔ the agent, by ioctl on SFK_DEVICE; and ↔ the host, by the window.
 *
 * What the module is for: the instant of a clone goes through a moment in which no CPU of the guest
 * runs anything but the module, with interrupts off. So what has to be different in a clone is
 * different before anything else of it runs, and what is true in that moment (which pages are free)
 * is true of the instant.
 *
 * The window. Pages of the guest's RAM, one behind the other, that the module allocates when it is
 * loaded. The first is struct sfk_window; the rest is the bitmap of dead pages, one bit for each
 * guest page number from 0, in little-endian 64-bit words. A host reads and writes a booted VM's
 * window in its RAM. In a clone the window is memory of its own, shared by guest and host, laid
 * over the RAM (proto/uffd.h): it has the clone's letter and an empty bitmap, nothing of the
 * parent's.
 *
 * The order of things, who speaks first:
 *
 *   agent      SFK_PREPARE. From here on it is the only one who may SFK_HOLD, until it closes.
 *   agent      AGENT_QUIESCED with AGENT_Q_HOLD (proto/agent-port.h), then SFK_HOLD.
 *   module     stops all CPUs; nothing is sent through the NIC from now on. Sets the bit of every
 *              free page, clears all others; writes held_op, then state = SFK_HELD; rings the
 *              doorbell: one byte, any value, to I/O port SFK_DOORBELL_PORT. Waits for
 *              letter.turn == held_op.
 *   host       hears the doorbell; stops the VM and saves it; sees state and held_op in the
 *              window, or else there is no instant; writes the letter, `turn` last; lets it go on.
 *   module     sets state = SFK_IDLE. If letter.id is another than the guest's until now, this is
 *              a clone: mixes the letter's entropy into the kernel's RNG and has it make new keys;
 *              all this before any other code runs. Then sets the clock; calls the kernel's vmfork
 *              notifiers; gives the NIC its MAC and addresses; ends TCP connections of the parent's
 *              addresses; SFK_HOLD returns.
 *
 * A letter that never comes: after SFK_WAIT_S seconds of the guest's own time the module gives up,
 * sets state = SFK_IDLE, lets the guest go on as it was, and SFK_HOLD returns -ETIMEDOUT.
 *
 * Dead pages. In a booted VM the bitmap is true in the moment of SFK_HELD. In a clone the module
 * sets the bits of every page that is freed from the first moment on, and never clears one: a page
 * that was freed once since the instant is not needed as it was at the instant, by nobody. The host
 * gives zeros for a dead page that it has not given anything for yet. A guest whose kernel expects
 * something else than zeros or garbage in free pages (page_poison=1) declares none.
 *
 * Guest page numbers. RAM is at guest-physical 0, and what does not fit below SFK_LOW_GFNS goes on
 * at SFK_HIGH_GFN. sfk_file_page() and sfk_gfn() translate to and from pages of the RAM's file.
 *
 * Nothing in the window is trusted by the host: a bit harms nobody but the guest that set it, and a
 * window that is not what the agent said is no window. Byte order: little-endian, as is x86.
 *
 * Changelog: 1: first.
 */
#ifndef PROTO_KMOD_H
#define PROTO_KMOD_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SFK_DEVICE "/dev/snowflock"
#define SFK_VERSION 1
#define SFK_MAGIC 0x314b4653u		/* "SFK1" */
#define SFK_WAIT_S 10

#define SFK_DOORBELL_PORT 0x520		/* write: the bell. Read: SFK_DOORBELL_ID */
#define SFK_DOORBELL_ID 0x53

#define SFK_PAGE_BYTES 4096u
#define SFK_MAX_WINDOW_PAGES 1024u	/* one allocation: bits for 128 GiB */
#define SFK_LOW_GFNS (1ull << 19)	/* 2 GiB */
#define SFK_HIGH_GFN (1ull << 20)	/* 4 GiB */

#define SFK_ENTROPY_BYTES 32
#define SFK_NOTE_BYTES 256

enum sfk_state { SFK_IDLE = 0, SFK_HELD = 1 };

/* Who a VM is from now on. Of the module's concern; the note is the agent's. */
struct sfk_letter {
	__u64 turn;		/* held_op: this is for you. Written last */
	__u32 id;		/* 0: the VM that was booted */
	__u32 reserved;
	__u64 realtime_ns;	/* CLOCK_REALTIME as this page is given; 0: leave the clock */
	__u8 mac[6];
	__u8 prefix;		/* length, of address; 0: no IPv4 */
	__u8 prefix6;		/* length, of address6; 0: no IPv6 */
	__u32 address;		/* IPv4, network byte order, as are the next two */
	__u32 gateway;		/* 0: none */
	__u32 parent;		/* address of ID 0, which has the MAC that this NIC had before */
	__u32 reserved2;
	__u8 address6[16];
	__u8 entropy[SFK_ENTROPY_BYTES];	/* from the host, never twice the same */
	__u8 note[SFK_NOTE_BYTES];	/* struct agent_resume, padded with zeros */
};

struct sfk_window {
	/* The guest's: */
	__u32 magic;		/* SFK_MAGIC */
	__u32 version;		/* SFK_VERSION */
	__u64 gfn;		/* the window's first page */
	__u64 pages;		/* of the window: 1..SFK_MAX_WINDOW_PAGES */
	__u64 bits;		/* of the bitmap that are in use, at most what its pages hold */
	__u64 held_op;		/* sfd's number of the operation (AGENT_QUIESCE) */
	__u64 dead;		/* bits that were set as it was held */
	__u64 hold_ns;		/* from SFK_HOLD to the doorbell, in the guest's time */
	__u32 state;		/* enum sfk_state, written after the rest */
	__u32 reserved;
	__u8 reserved2[192];
	/* The host's: */
	struct sfk_letter letter;
};

/* Return: the page of the RAM's file at `gfn`; meaningless for a gfn that is in neither part. */
static inline __u64 sfk_file_page(__u64 gfn)
{
	return gfn < SFK_LOW_GFNS ? gfn : gfn - (SFK_HIGH_GFN - SFK_LOW_GFNS);
}

/* Return: the guest page number of a page of the RAM's file. */
static inline __u64 sfk_gfn(__u64 file_page)
{
	return file_page < SFK_LOW_GFNS ? file_page : file_page + (SFK_HIGH_GFN - SFK_LOW_GFNS);
}

/*
 * The device, for root alone. Any number of processes may have it open. An ioctl that is not known
 * gets ENOTTY, a bad pointer EFAULT. The module cannot be unloaded while it is open.
 */

/* Where the window is; at any time. */
struct sfk_where {
	__u32 version;		/* SFK_VERSION */
	__u32 reserved;
	__u64 gfn;
	__u64 pages;
};

/*
 * This descriptor will hold the guest. EBUSY: another one has prepared. ENODEV: no such NIC.
 * Undone when SFK_HOLD returns, and when the descriptor is closed.
 */
struct sfk_prepare {
	__u64 op;		/* sfd's number, not 0 */
	char nic[16];		/* the interface on the clones' segment, NUL-ended; empty: none */
};

/*
 * Holds the guest, in the parent and in each clone. ENXIO: this descriptor has not prepared.
 * ETIMEDOUT: there was no answer. Not interrupted by signals.
 */
struct sfk_held {
	__u32 id;		/* letter.id */
	__u32 clone;		/* 1: this is a clone made in this operation; 0: it is the parent */
	__s32 network_error;	/* 0, or the errno with which the NIC could not be set up */
	__u32 connections;	/* TCP connections of the parent's that were ended here */
	__u64 addressed_ns;	/* from the letter to addresses in place, in the guest's time */
	__u8 note[SFK_NOTE_BYTES];
};

#define SFK_WHERE _IOR('S', 0x01, struct sfk_where)
#define SFK_PREPARE _IOW('S', 0x02, struct sfk_prepare)
#define SFK_HOLD _IOR('S', 0x03, struct sfk_held)

#ifndef __KERNEL__
#include <stddef.h>
_Static_assert(sizeof(struct sfk_letter) == 352, "no padding");
_Static_assert(offsetof(struct sfk_window, letter) == 256, "no padding");
_Static_assert(sizeof(struct sfk_held) == 280, "no padding");
#endif

#endif
