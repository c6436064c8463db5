/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A server's saved state, as it travels from a parent's sfd to a clone's.
 *
 * Little-endian, no padding. str: u16 length, the bytes. [n]: u32 n, then n times what follows.
 *
 *   u32 magic, u32 version, u32 domid
 *   u64 generation, u64 received, u64 sent
 *   nodes [n]      str name (empty in roots), u64 generation, str value,
 *                  u8 perms, each u16 domid, u8 may;
 *                  children [n] u32 index of a node before this one, in the order of names
 *   u32 index of the tree's root
 *   u32 next transaction's id
 *   transactions [n]   u32 id, u32 index of its root, u8 failed, u32 bytes,
 *                      touches [n] str path, u64 seen, u8 flags
 *   watches [n]    str path (absolute, or an @event), str token, u8 relative
 *   events that wait [n]   str path (absolute, relative to home, or an @event), str token
 *   str what has come of a request: the head as on the wire, the payload
 *
 * A node is there once, however many trees share it. Nothing follows behind.
 *
 * Changelog: 1: first.
 */
#ifndef HOST_SFD_XS_STATE_H
#define HOST_SFD_XS_STATE_H

#define XS_STATE_MAGIC 0x53585346u	/* "FSXS" */
#define XS_STATE_VERSION 1u

/* Most nodes: far beyond what a host and a guest with its transactions can make. */
#define XS_STATE_NODES_MAX (1u << 18)

/* Least bytes of one thing of each kind, all its strings and lists empty. */
#define XS_STATE_NODE_BYTES (2 + 8 + 2 + 1 + 3 + 4)
#define XS_STATE_TRANSACTION_BYTES (4 + 4 + 1 + 4 + 4)
#define XS_STATE_TOUCH_BYTES (2 + 8 + 1)
#define XS_STATE_WATCH_BYTES (2 + 2 + 1)
#define XS_STATE_EVENT_BYTES (2 + 2)

#endif
