/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The OpenMP shim: the members of a team, each in a clone of its own, and the parent, whose program
 * reached a parallel region and waits for them.
 *
 * One TCP connection from each member to the address of ID 0, port and token from the memory that
 * both had at the instant. The member speaks first: HELLO. From then on it asks and the parent
 * answers, one question at a time; FAIL has no answer. Little-endian; strings end with
 * their frame. A member that says what cannot be is treated as if its clone had been lost: the
 * region is done again by the parent alone.
 *
 * The parent's memory stays as it was at the instant until all members are DONE. What members send
 * is kept beside it, in the parent's *store* (omp-shim/store.h).
 *
 * Memory travels as *pieces*: struct omp_piece, then `bytes` bytes, one after another, by rising
 * address, not overlapping. A piece holds what was written and nothing else, byte for byte: what
 * lies between may be another member's. Where little was written in many places of a page, one piece
 * has them all.
 */
#ifndef PROTO_OMP_H
#define PROTO_OMP_H

#include <stdint.h>

#define OMP_MAGIC 0x504d4f46u		/* "FOMP" */
#define OMP_VERSION 1u
#define OMP_TOKEN_BYTES 32
#define OMP_MAX_MEMBERS 1024u		/* as sf_request_ticket() */
#define OMP_MAX_FRAME (64u << 20)	/* bytes of payload; more pieces than fit come in several */
#define OMP_MAX_ATOMIC 16u		/* bytes of an operand of a locked instruction */
#define OMP_MAX_COPY (8u << 20)		/* bytes of a stack */
#define OMP_MAX_OUTPUT (64u << 20)	/* bytes that a member may print in a region */

struct omp_frame {
	uint32_t length;	/* bytes of payload that follow */
	uint16_t type;		/* enum omp_type */
	uint16_t flags;		/* OMP_MORE: another frame of the same kind belongs to it */
};
#define OMP_MORE 1u
_Static_assert(sizeof(struct omp_frame) == 8, "no padding");

enum omp_type {
	OMP_HELLO = 1,	/* struct omp_hello */
	OMP_SYNC,	/* struct omp_sync, then pieces: what this member wrote since it last said so.
			   Answer UPDATE */
	OMP_UPDATE,	/* struct omp_update, then pieces: what others wrote that this member has to see */
	OMP_CHUNK,	/* struct omp_chunk: the next iterations of a loop. Answer RANGE */
	OMP_RANGE,	/* struct omp_range */
	OMP_FETCH,	/* struct omp_place: bytes for a locked instruction, which nobody else gets until
			   STORE. Answer VALUE: the bytes */
	OMP_VALUE,
	OMP_STORE,	/* struct omp_place, then the bytes. Answer UPDATE without pieces */
	OMP_OUTPUT,	/* struct omp_output, then bytes: before DONE, in the order they were printed. No answer */
	OMP_FREES,	/* uint64_t addresses: given to free(), and not this member's. Before DONE. No answer */
	OMP_DONE,	/* struct omp_done, then pieces: the region's function has returned. Answer UPDATE
			   without pieces: only then the clone may end, and what is under way with it */
	OMP_FAIL,	/* struct omp_fail, then a sentence: this cannot be done in a clone. No answer */
	OMP_TYPES
};

struct omp_hello {
	uint32_t magic, version;
	uint64_t region;	/* of the process, from 1 */
	uint32_t member;	/* 0…size - 1 */
	uint32_t reserved;
	uint8_t token[OMP_TOKEN_BYTES];
};
_Static_assert(sizeof(struct omp_hello) == 56, "no padding");

/* What a SYNC waits for, and which writes of others the member sees after it. */
enum omp_sync_kind {
	OMP_BARRIER = 1, /* all members that are not DONE; all that was written before */
	OMP_LOCK,	 /* that nobody else has `key`; what was written before it was last let go */
	OMP_TRYLOCK,	 /* nothing; value 1: as LOCK, 0: somebody has it */
	OMP_UNLOCK,	 /* nothing */
	OMP_FLUSH,	 /* nothing; all that has arrived */
	OMP_SINGLE,	 /* nothing; value 1 for the first that asks with this key, else 0. No pieces */
	OMP_COPY,	 /* SINGLE's first has said OMP_COPY_SET with this key: its value, and its
			    pieces. No pieces */
	OMP_COPY_SET,	 /* nothing. The pieces (OMP_MAX_COPY bytes at most) are of its own stack: they are
			    not merged, but given to those that ask with COPY */
	OMP_ORDERED,	 /* that `value`, an iteration's number counted from 0 in the loop `key`, is the next */
	OMP_ORDERED_END, /* nothing; it is over */
	OMP_SYNC_KINDS
};

struct omp_sync {
	uint32_t kind;		/* enum omp_sync_kind */
	uint32_t reserved;
	uint64_t key;		/* of a lock: its address, or that of a name; of the others: the how manieth
				   worksharing construct of the region, counted alike by all members */
	uint64_t value;
};

struct omp_update {
	uint64_t value;
};

enum omp_schedule { OMP_STATIC = 1, OMP_DYNAMIC, OMP_GUIDED };

/* Iterations are counted from 0; the member makes numbers of them. All members say the same. */
struct omp_chunk {
	uint64_t key;		/* as above */
	uint64_t iterations;	/* of the whole loop; sections: how many there are */
	uint64_t chunk;		/* 1 or more */
	uint32_t schedule;	/* OMP_DYNAMIC or OMP_GUIDED (static needs nobody) */
	uint32_t reserved;
};

struct omp_range {
	uint64_t begin, end;	/* begin == end: none is left */
};

struct omp_place {
	uint64_t address;
	uint32_t bytes;		/* 1, 2, 4, 8 or 16; may lie across two pages */
	uint32_t reserved;
};

struct omp_output {
	uint32_t fd;		/* 1 or 2 */
	uint32_t reserved;
};

struct omp_done {
	uint64_t cpu_ns;	/* of the member's thread, in the region */
	uint64_t page_count;	/* pages that were compared */
};

struct omp_fail {
	uint32_t reason;	/* enum omp_reason */
	uint32_t reserved;
};

/* Why a region ran, or ran again, in the parent alone. SF_OMP_REPORT prints the words. */
enum omp_reason {
	OMP_NO_REASON,
	OMP_SHORT,		/* it takes less time than a clone */
	OMP_NO_ROOM,		/* no clones were to be had */
	OMP_CONFLICT,		/* two members wrote different things to the same bytes */
	OMP_LOST,		/* a clone ended before its member was done */
	OMP_SYSCALL,		/* a member made a system call that has an effect outside of it */
	OMP_CONSTRUCT,		/* a construct that is not taken over */
	OMP_THREADS,		/* the program has threads of its own */
	OMP_SHARED,		/* it has memory that it shares with other processes, and may write to */
	OMP_STATE,		/* a function that keeps a state in the C library */
	OMP_CRASH,		/* a member got a signal that ends it */
	OMP_TOO_MUCH,		/* output, heap or pieces beyond the limits */
	OMP_ASKED,		/* SF_OMP=off, or a team of one */
	OMP_GIVEN_UP,		/* it was given up too often before */
	OMP_REASONS
};

enum omp_form {
	OMP_RUN,		/* the bytes at address, address + 1… */
	OMP_SCATTERED,		/* bytes here and there in the page at address, as told below */
	OMP_FORMS
};

struct omp_piece {
	uint64_t address;
	uint32_t bytes;		/* that follow: 1…OMP_MAX_RUN */
	uint8_t form;		/* enum omp_form */
	uint8_t pattern;	/* of OMP_SCATTERED, else 0 */
	uint16_t reserved;
};
_Static_assert(sizeof(struct omp_piece) == 16, "no padding");
#define OMP_MAX_RUN (16u << 20)

/*
 * OMP_SCATTERED: a page is 64 lines of 8 words of 8 bytes, and a word's mask is a byte, whose bit b
 * is set if byte b was written. Most words have the mask `pattern`. After the piece: this structure;
 * for each line in `lines` that is not in `plain`, by rising address, a byte whose bit w is set if
 * word w has another mask, and then these masks; then the bytes that were written, by rising address.
 */
struct omp_scattered {
	uint64_t lines;		/* that have any */
	uint64_t plain;		/* of these, those whose words all have the pattern */
};
_Static_assert(sizeof(struct omp_scattered) == 16, "no padding");

#endif
