/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shim in QEMU → sfd: "here is my guest's RAM".
 *
 * QEMU is stock. A preloaded shim (host/vmm/uffd-shim.c) waits for the mmap() of the guest-RAM
 * file, makes a userfaultfd inside QEMU's process (a userfaultfd serves the address space that
 * made it) and hands it over. Who speaks first: the shim, once per mapping, with one message and
 * the userfaultfd as SCM_RIGHTS; sfd answers one byte when the pages are in somebody's care, and
 * only then does mmap() return. QEMU keeps its own descriptor open for as long as it lives: a
 * closed userfaultfd would turn missing pages into silent zeros. The userfaultfd arrives without
 * UFFDIO_API; the process that serves it says which features it wants.
 *
 * The shim finds its way by the environment: UFFD_ENV is "SOCK,DEV,RAM", three inherited
 * descriptors: the socket, /dev/userfaultfd (Linux 6.1, Documentation/admin-guide/mm/userfaultfd),
 * and the guest-RAM file, known again by device and inode. The shim takes UFFD_ENV and LD_PRELOAD
 * out of the environment once read.
 *
 * A clone with a window (proto/kmod.h) has "SOCK,DEV,RAM,WINDOW,OFFSET,BYTES": a memfd, of which
 * the first BYTES are mapped shared over the RAM at OFFSET, before anybody hears of the RAM.
 *
 * An invalid message gets the socket closed; the shim then ends QEMU with a line on stderr.
 */
#ifndef PROTO_UFFD_H
#define PROTO_UFFD_H

#include <stdint.h>

#define UFFD_ENV "SF_UFFD"
#define UFFD_MAGIC 0x31444655u	/* "UFD1" */
#define UFFD_ACK 'k'

/* Both ends are on one host: host byte order. */
struct uffd_handover {
	uint32_t magic;		/* UFFD_MAGIC */
	uint32_t page_bytes;	/* 4096 */
	uint64_t base;		/* the mapping's address in QEMU */
	uint64_t length_bytes;	/* of the mapping; equal to the file's size */
};
_Static_assert(sizeof(struct uffd_handover) == 24, "no padding");

#endif
