/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfd → sf-vdisk: the layers of one disk of one VM.
 *
 * sf-vdisk is an nbdkit plugin: one process for each disk of each VM, which serves QEMU's NBD
 * connection on its standard input and output and is told here what the disk is made of. It owns
 * nothing that must outlive it: every descriptor is kept by sfd as well. When it dies, the VM has
 * lost its disk, and ends.
 *
 * Transport: an inherited SOCK_SEQPACKET pair (its number is the plugin's parameter "control"), one
 * message per packet, descriptors as SCM_RIGHTS. sfd speaks first; every request is answered once,
 * with its `tag`: at once and in order, except VDISK_MERGE and VDISK_COPY, which take long and are
 * answered when they are done. sf-vdisk ends when the socket closes. Host byte order. A message of
 * the wrong size, or about a layer that does not exist, gets EINVAL and changes nothing.
 *
 * A disk is a stack of layers, numbered from 0 at the bottom. A block of VDISK_BLOCK_BYTES is read
 * from the highest layer that has it, and is zeros if none has. It is written to the top one alone;
 * the layers below are frozen, for ever, and may be read by others at the same time.
 *
 * base       Layer 0, optional: a file that has every block; what lies behind its end is zeros.
 * inherited  Layer 0, of a clone on another host than its parent: the page file of the snapshot's
 *            disk (proto/memtap.h), which memtap fills as it is read.
 * layer      A sparse file and its map: a memfd with one bit for each block of the disk, in
 *            little-endian 64-bit words; set when the block is in the file. A layer that is new is
 *            empty. Both are shared: who holds them sees what is written.
 *
 * Nothing is synced to the host's disk: layers have no name, and end with the host's daemon.
 */
#ifndef PROTO_VDISK_H
#define PROTO_VDISK_H

#include <stdint.h>

#define VDISK_BLOCK_BYTES 4096u		/* blocks are memtap's pages */
#define VDISK_MAX_BYTES (1ull << 42)
#define VDISK_MAX_DISKS 4u		/* of a VM */
#define VDISK_MAX_LAYERS 64u
#define VDISK_PROGRESS_NS 100000000ull

enum vdisk_op {
	/* Layer 0 is a base. fds: the file, open for reading. */
	VDISK_BASE = 1,
	/*
	 * Layer 0 is inherited. fds: the page file; /dev/userfaultfd, opened, since a userfaultfd
	 * serves the process alone that made it. The page file is mapped privately, the mapping
	 * registered with a new userfaultfd (missing pages); the reply has `base` and `bytes` of
	 * it, for MEMTAP_CLONE, and as the only one a descriptor: the userfaultfd. It is kept open
	 * here as well until the end: one that is closed turns missing pages into zeros.
	 */
	VDISK_INHERITED,
	/* One more layer, on top; what was the top is frozen when the reply is there. fds: file, map. */
	VDISK_LAYER,
	/* The disk is as it must be: NBD requests, which have waited until now, are served. */
	VDISK_OPEN,
	/*
	 * Frozen layers `first` … `first + count - 1`, count ≥ 2, none of them layer 0 if that is a
	 * base or inherited, become one, fds: file, map, both new. It holds the highest of each
	 * block. When the reply is there it has taken their place; layers above have moved down.
	 * One VDISK_MERGE or VDISK_COPY at a time: EBUSY.
	 */
	VDISK_MERGE,
	/*
	 * Writes layers 0 … `count - 1`, all frozen, as one raw image. fds: an empty file. Blocks of
	 * zeros become holes. Every VDISK_PROGRESS_NS a reply with error = EINPROGRESS.
	 */
	VDISK_COPY,
	VDISK_STATS,
	/* Nobody wants the VDISK_COPY under way: it is answered soon, with ECANCELED or done. */
	VDISK_CANCEL,
};

struct vdisk_request {
	uint32_t op;		/* enum vdisk_op */
	uint32_t tag;		/* the asker's */
	uint32_t first, count;
};

struct vdisk_reply {
	uint32_t op;
	uint32_t tag;
	int32_t error;		/* 0 or an errno */
	uint32_t layers;	/* as they are now */
	uint64_t base, bytes;	/* VDISK_INHERITED: the mapping. VDISK_COPY: bytes done, of all */
	uint64_t elapsed_ns;	/* what it took in there */
	uint64_t read_bytes, written_bytes;	/* of the VM's requests, since the beginning */
	uint64_t own_bytes;	/* in layers that can be or were written */
};

#endif
