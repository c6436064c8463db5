/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfd ↔ sfd: JSON messages (common/link.h) over TLS with the cluster's key.
 *
 * Every daemon connects to every other one. A daemon's requests and events go out on the link it
 * made; what comes in on a link somebody else made is answered there. Who speaks first: the one
 * who connected, with "hello"; nothing else is served before it. "Home" is the daemon that booted a
 * VM; it alone decides about the family that comes of it. A daemon that cannot make sense of a
 * message refuses it with EINVAL and a sentence. When a link from a home is lost, everything of its
 * families is destroyed here; when a link to a host is lost, home counts its clones as lost. A daemon
 * that is not heard of for some seconds is lost too: each asks each other one once a second.
 *
 * Requests, by {"op": …}:
 *
 *   hello {version, cluster, host, accel, cpu, mem_bytes} → {version, host, accel, cpu, mem_bytes}
 *        refused unless version, cluster, accelerator and CPU model are the same: a clone must be
 *        able to land anywhere
 *   alive {} → {}
 *   room {} → {mem_bytes, free_bytes, clone_percent, vms}
 *   hear {number: hex} → {heard: bool}
 *        answered when the probe (below) with this number came, or did not within PEER_HEAR_MS
 *   reserve {family: {…}, ticket, slots: [s…], window_gfn, window_pages} → {ready: [s…], pages: port,
 *           disks: [port…]}
 *        family: {number, ram_bytes, cpus, vni, base, group, group_port, ipv6?: bool, disks: [bytes…]}
 *        group, group_port: the multicast group that its pages may be sent to; pages: the UDP port
 *        of the host's memtap; disks: the size of each disk (a multiple of VDISK_BLOCK_BYTES, at most
 *        VDISK_MAX_DISKS of them), and the port of the memtap that has it
 *        window: of the guest's kernel module (proto/kmod.h), laid over the clones' RAM; 0 pages: none
 *        answered when the QEMUs wait and their memory is in memtap's care
 *   start {number, ticket, snapshot: hex, key: hex, file, pages, descriptor_bytes, dead_bytes, quiesce,
 *          window?: hex, request, checkpoint, cancel: [key…], streams: [s…],
 *          clones: [{slot, id, serial}], mode, members: [{address, pages, disks: [port…]}…], push,
 *          compress: bool, disks: [{snapshot: hex, key: hex, pages: port}…]}
 *          + descriptor, dead pages and XenStore state → {}    the clones' progress comes as events
 *        dead_bytes: 0, or 1 for each 8 pages of RAM, rounded up to 8: as memtap needs them. Not 0:
 *        the guest is held (proto/kmod.h), and each clone gets a letter, instead of a frame;
 *        window: what its module has written there, the bytes in front of the letter
 *        snapshot and key as memtap needs them, pages: the UDP port of home's memtap, file: the
 *        snapshot's file for home itself; request: the key of the request that made this instant,
 *        answered in every clone; quiesce: the number its agent got quiet by; cancel: requests that
 *        were open and are refused there; streams: commands that run in the guest; all
 *        clones of the ticket are listed, each host takes those of its slots
 *        mode: how pages travel (proto/mcdist.h): "unicast", "multicast" or "tree"; members: every
 *        host that has begun at this instant or begins now, from node 1 on, each known by its
 *        address and its memtaps' ports; push: pages per second sent unasked, 0: none
 *        disks: each disk as of the same instant, a snapshot of its own; pages: home's port for it
 *   kill {number, ticket, id?} → {}       id absent: all of the ticket
 *   release {number, ticket} → {}         nothing of the ticket is left here
 *   dismiss {number} → {}                 nothing of the family is left here
 *   memory {number} → {counters of the family's memtap here, as control's show has them}
 *   vms {} → {vms: […]}                   as control's ps, of this host alone
 *   output {number, ticket, id, stream, channel} + bytes → {}    clone's host → home; the answer is
 *                                         the permission for more
 *
 * Events (no answer), clone's host → home:
 *
 *   running {number, ticket, id}                        its vCPUs run
 *   result {number, ticket, id, offset, length} + bytes   in order, before ended
 *   ended {number, ticket, id, state, status?, reason?, exit_us, faults, pages_fetched, bytes_fetched}
 *
 * Probes tell whether multicast works from one host to another. A daemon that wants to know asks
 * the other to "hear" a random number, and sends that number, a few times, to a group that the
 * cluster's name and key determine (host/sfd/probe_wire.h). A probe is PEER_PROBE_BYTES long; one
 * that is not, or whose code is wrong, is counted and dropped.
 *
 *   4 bytes  PEER_PROBE_MAGIC, little-endian, as all of it
 *   4        index of the sender's line in the hosts file
 *   8        the number
 *   32       BLAKE2b of these 16 bytes, under a key made of the cluster's
 *
 * Changelog: 2: dead pages, windows. 3: hear and probes; group, mode, members, push, compress.
 * 4: disks.
 */
#ifndef PROTO_PEER_H
#define PROTO_PEER_H

#define PEER_VERSION 4
#define PEER_DEFAULT_PORT 1972
#define PEER_VXLAN_PORT 4789
#define PEER_RESULT_CHUNK (4u << 20)
#define PEER_HEAR_MS 1500
#define PEER_PROBE_MAGIC 0x50464853u	/* "SHFP" */
#define PEER_PROBE_BYTES 48

#endif
