/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A locked instruction of the program, and a copy of it that works on bytes elsewhere. */
#ifndef OMP_SHIM_LOCKED_SITE_H
#define OMP_SHIM_LOCKED_SITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#define SITE_COPY_BYTES 16 /* room for an instruction and its ret */

enum site_kind {
	SITE_ATOMIC,	/* on `bytes` bytes of memory */
	SITE_FENCE,	/* mfence: on none */
	SITE_UNKNOWN,	/* with %rsp as its other operand */
};

enum { SITE_NONE = 16, SITE_RIP = 17 }; /* instead of a register's number */

struct locked_site {
	uint64_t address;
	int32_t displacement;
	uint8_t kind;		/* enum site_kind */
	uint8_t length;		/* of the instruction */
	uint8_t bytes;		/* of the operand in memory */
	uint8_t base, index;	/* numbers of registers as the processor counts, or SITE_… */
	uint8_t scale;		/* a shift */
	uint8_t other;		/* the other operand's register, or an opcode's extension */
	bool narrow;		/* addresses have 32 bits */
	bool bit_string;	/* bts and its like: `other` says which bit, near or far */
	uint8_t pointer;	/* in the copy: the register that has the operand's address */
};

/*
 * Takes an instruction of `length` bytes apart and writes a copy of it, with ret behind, to `copy`,
 * in which the operand is where site->pointer points to.
 * Return: false if it needs no breakpoint: it is not locked, or works on the thread's TLS.
 */
bool site_read(struct locked_site *site, uint64_t address, const uint8_t *code, size_t length,
	       uint8_t copy[SITE_COPY_BYTES]);

/* True if a locked instruction may begin here, as far as a look at the bytes can tell. */
bool site_may_begin(const uint8_t *code, size_t left);

/* Return: where the operand is, for a thread with these registers. */
uint64_t site_operand(const struct locked_site *site, const greg_t *registers);

/*
 * Runs the copy on bytes at `operand`, which stand for those at site_operand(), and changes the
 * registers and flags as the instruction does; not RIP.
 */
void site_run(const struct locked_site *site, const uint8_t *copy, greg_t *registers, void *operand);

/* Return: the site whose breakpoint is at `address`, with its copy; NULL: there is none. */
const struct locked_site *site_at(uint64_t address, const uint8_t **copy);

/* The handler of SIGTRAP. `stack`: the member's thread's. Return: 0 or -errno. */
int site_take_traps(uint64_t stack_start, uint64_t stack_end);

#endif
