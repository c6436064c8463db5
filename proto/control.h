/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl ↔ sfd: JSON messages (common/link.h) over the UNIX socket CONTROL_SOCKET in the daemon's
 * folder, mode 0600.
 *
 * sfctl speaks first, with requests {"op": NAME, …}; sfd answers each once, with the fields named
 * below or an error. A connection may have streams; their bytes travel as {"op"|"ev": "data",
 * "stream": s, "channel": c} with the bytes as binary tail (at most AGENT_MAX_DATA; none: the end).
 * A sender has AGENT_WINDOW bytes per stream and channel and gets room by {"op"|"ev": "credit",
 * "stream", "channel", "bytes"}; clones' output ("clone": id) takes none. Channels are enum
 * agent_channel. Unknown fields are ignored, missing or mistyped ones get EINVAL and a sentence. When
 * a connection ends, every VM it booted is destroyed, with all that came of it.
 *
 *   hello {version: CONTROL_VERSION} → {version, cluster, host, accel, hosts: n}
 *   boot {mem_bytes, cpus, ipv6?: bool, name?, kernel?, initrd?, append?, images?: [path…], agent?: bool}
 *        → {vm: id}    answered when the agent is up, or with agent: false when QEMU runs
 *        append: more options for the guest's kernel, up to CONTROL_MAX_APPEND bytes
 *        images: raw or qcow2 files, absolute paths; the disks of the VM, at most VDISK_MAX_DISKS. They
 *        are read and never written. With images and no kernel the VM boots from the first of them
 *        agent: false: nobody in it is heard of; what its console prints comes as {"ev": "console",
 *        vm} + bytes, from the start on
 *        before the answer: event {"ev": "boot", vm, step: "starting" | "kernel" | "agent"}, and
 *        {"ev": "boot", step: "image", path, percent} while a qcow2 image is unpacked
 *   put {vm, path, mode, length} → {stream}         then data from sfctl; {"ev": "stored", stream, errno: 0 or name}
 *   exec {vm, argv: [..], env: {..}, cwd, tty: {rows, columns} | null} → {stream}
 *        data both ways; {"ev": "exited", stream, status: wait status}; output of clones comes with
 *        the same stream and "clone": id
 *   signal {stream, signal}, winsize {stream, rows, columns} → {}
 *   watch {vm} → {}                                  from now on {"ev": "clone", vm, step, …}:
 *        step "ticket"  {n, granted, hosts: {host: count}, ms}
 *        step "cloned"  {op, n, granted, pause_ms, hold_ms, dead_pages, descriptor_bytes, disk_ms}
 *                                                                        the parent goes on
 *        step "running" {op, id, host, ms}                               its vCPUs run
 *        step "answered" {op, id, ms}
 *        step "ended"   {op, id, state, status?, reason?, faults, pages_fetched, bytes_fetched}
 *        step "joined"  {op, join_ms}
 *   record {vm} → {record: {clones: [operation…]}}, as README documents for sfctl run --json
 *   destroy {vm} → {}                                answered when nothing of it is left
 *        {"ev": "lost", vm, reason}: a VM this connection booted ended by itself or by kill
 *   ps {} → {vms: [{id, name, kind: "vm" | "clone", host, state, parent?, clone_id?, mem_bytes,
 *            cpus, address, pid, uptime_ms}]}         all hosts of the cluster
 *            disks: [{bytes, layers, own_bytes, pid}]: layers above the image or what is inherited;
 *            own_bytes: what those that are the VM's own take on the host's disk
 *            a VM has `module` as well: true if its kernel module is loaded
 *   show {id} → {the same, and: tickets, snapshot, memory and fault counters, and: distribution
 *            {wanted, mode, group, group_port, push_bytes_per_s, compress};
 *            memory: of its home, hosts_memory: {host: …} of each other host that has clones
 *   hosts {} → {hosts: [{name, address, state: "up" | "down", mem_bytes, mem_free_bytes, vms, accel, cpu,
 *            distribution: "auto" | "multicast" | "tree" | "unicast", mode, heard_by: n}]}
 *        distribution: what its daemon was told; mode: how pages would travel from it to all other
 *        hosts that are up (proto/mcdist.h); heard_by: how many of them hear its multicast
 *   export {id, disk: n, path} → {bytes}             writes the disk of a VM or clone of this host, as
 *        it is now, to a new raw image. Before the answer, now and then: {"ev": "export", id, bytes, of}
 *   kill {id} → {}                                   a VM (with all that came of it) or one clone
 *   shutdown {} → {}                                 this daemon ends its VMs and itself
 *
 * VM ids: "<host>.<number>" for a VM that was booted, "<host>.<number>/<k>" for its clones, where k
 * counts all clones ever made of it.
 *
 * The record of an operation: {n, granted, hosts, mode, ticket_ms, pause_ms, hold_ms, disk_ms,
 * dead_pages, descriptor_bytes, clones: [{id, host, running_ms, answered_ms, faults, pages_fetched,
 * bytes_fetched, status}], join_ms}. Times count from the arrival of the guest's clone request at
 * sfd; ticket_ms is what the ticket took before that. hold_ms: what the guest's kernel module took to
 * hold it, in the guest's time and before pause_ms begins; null if none held it. disk_ms: what
 * freezing its disks took, in pause_ms and beside the arming; null if it has none. dead_pages: of its
 * RAM, which no clone needs. join_ms: from the last clone's sf_exit() to the parent's return from
 * sf_join(), null if it did not join. status: the exit status, or "killed", "lost", "failed"; null
 * while it runs.
 */
#ifndef PROTO_CONTROL_H
#define PROTO_CONTROL_H

#define CONTROL_VERSION 1
#define CONTROL_SOCKET "ctl.sock"
#define CONTROL_RUN_DIR "/run/snowflock"	/* /<cluster>/<host>/ is a daemon's folder */
#define CONTROL_DEFAULT_CLUSTER "default"
#define CONTROL_MAX_APPEND 1024u	/* bytes; Linux takes 2048 in all (COMMAND_LINE_SIZE on x86) */

#endif
