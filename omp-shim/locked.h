/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Locked instructions (and xchg with memory), which is what atomic operations and reductions are
 * compiled to. Found once, by disassembling (capstone) the program and its libraries but those that
 * ranges.h names; in a member each gets a breakpoint. When one is hit: the bytes it works on are
 * fetched from the parent's store, which gives them to nobody else then, the instruction itself is
 * run on them here by single step, and the bytes go back. So every operation on every type is right
 * without anybody knowing what it does. One on the member's own stack is a fence (`lock orq $0,
 * (%rsp)`): a flush.
 */
#ifndef OMP_SHIM_LOCKED_H
#define OMP_SHIM_LOCKED_H

#include <stddef.h>
#include <stdint.h>

/* Finds them; again when libraries were loaded since. Return: how many, or -errno. */
int locked_find(void);

/*
 * In a member, before the region's function: breakpoints and the handler of SIGTRAP. The stack of
 * the member's thread is [stack_start, stack_end). Return: 0 or -errno.
 */
int locked_arm(uint64_t stack_start, uint64_t stack_end);

#endif
