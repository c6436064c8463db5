/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which loaded libraries are not the program's business, and which of them this code is in. */
#ifndef OMP_SHIM_LIBRARIES_H
#define OMP_SHIM_LIBRARIES_H

#include <link.h>
#include <stdbool.h>

/* True of those that ranges.h names, of this one, and of the vdso. */
bool library_is_apart(const struct dl_phdr_info *info);

/* Finds out where this library is: before a region, since it takes the loader's lock. */
void library_find_own(void);

/*
 * True if the code at `address` is this library's: a caller's, to tell the shim's own calls from
 * the program's. False where the shim is linked into the program itself.
 */
bool library_is_own(const void *address);

/* The same of the libraries that this one uses, and the program does not. */
bool library_is_helper(const void *address);

#endif
