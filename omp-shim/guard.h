/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a member does that is not memory. Output to descriptors 1 and 2 is kept and sent home. Other
 * system calls with an effect outside of the member are found by a seccomp filter (libseccomp) that
 * makes SIGSYS of them, and the region is given up: member_fail(OMP_SYSCALL, "open()…"). So is one in
 * which a signal would end the member.
 */
#ifndef OMP_SHIM_GUARD_H
#define OMP_SHIM_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * In a member, last before the region's function; `sock` may be used by the shim, and `files`, of which
 * there are `count`, may be written to. From then on
 * omp_team.ways->leave() is one that the filter lets through. Return: 0 or -errno.
 */
int guard_arm(int sock, const int *files, unsigned count);

/* True in a member, for all its threads, from guard_arm() until it leaves. */
bool guard_is_on(void);

/* Writes out what stdio holds. Return: what was printed to `fd`, the caller's to free(), or NULL. */
uint8_t *guard_output(int fd, size_t *len);

#endif
