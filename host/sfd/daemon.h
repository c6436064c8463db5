/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon: what every part of sfd may ask of it.
 *
 * sfd is one event loop and no threads. Its parts, from the bottom: hosts (who there is), peers
 * (talking to them), probe (who hears whose multicast), pager (the sf-memtap of a family), family (what a family of clones shares on
 * one host), image and disk (what VMs have for disks), vm (one QEMU with its channels), then two kinds of VM: guest (booted here, home is
 * here) and clone (of any home's guest). control serves sfctl.
 */
#ifndef HOST_SFD_DAEMON_H
#define HOST_SFD_DAEMON_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "common/link.h"
#include "host/sfd/distribution.h"
#include "host/vmm/vmm.h"

#define WHY_BYTES 256 /* room for a sentence */

struct control_server;
struct event_base;
struct family;
struct guest;
struct peer_calls;
struct peers;
struct probes;

struct config {
	const char *cluster;
	const char *host; /* our name in the hosts file */
	const char *hosts_file;
	const char *key_file;
	const char *dir;	 /* our folder */
	const char *guest_dir;	 /* vmlinuz and initrd.img */
	const char *data_dir;	 /* layers of disks, unpacked images */
	const char *libexec_dir; /* sf-memtap and the shim; NULL: installed */
	const char *qemu;	 /* NULL: from PATH */
	uint64_t mem_bytes;	 /* for guests; 0: nine tenths of what is available now */
	unsigned clone_percent;	 /* of a guest's RAM that a clone is counted with */
	unsigned sweep_pages;	 /* per second, see MEMTAP_INIT */
	enum distribution distribution;
	uint32_t push_pages; /* per second, see MEMTAP_ARM; 0: off */
	bool compress;
	enum vmm_accel accel;
	int ready_fd; /* -1: nobody waits */
};

/* A host of the cluster, ourselves among them. */
struct host {
	struct daemon *daemon;
	char name[64];
	unsigned index; /* line in the hosts file: the same everywhere */
	struct in_addr addr;
	uint16_t port;
	uint64_t mem_bytes; /* from the hosts file, 0: not said */
	struct link *out;   /* the link we made; NULL while down or for ourselves */
	struct link *in;    /* the link it made */
	struct event *retry;
	unsigned retry_ms; /* until the next attempt, growing */
	bool up;	   /* it answered our hello */
	bool heard;	   /* a message of its came since the last look */
	unsigned silent_s;
	bool probed; /* it was asked whether it hears our multicast, and … */
	bool hears;  /* … it does */
	enum vmm_accel accel;
};

struct daemon {
	struct config config;
	struct event_base *base;
	uint8_t key[LINK_KEY_BYTES];
	struct host *hosts;
	unsigned host_count;
	struct host *self;
	uint64_t mem_bytes, mem_used;
	unsigned next_uid;
	unsigned next_guest; /* number of the next VM booted here */
	struct peers *peers;
	struct probes *probes;
	struct peer_calls *calls;
	struct control_server *controls;
	LIST_HEAD(, family) families;
	LIST_HEAD(, guest) guests;
	bool stopping;
};

/*
 * Memory for guests: what is left of it. Who takes some says how much; pages of disks that clones
 * have read are counted as they come, so that nothing may be left although nobody took it.
 */
uint64_t daemon_free_memory(const struct daemon *d);
/* Return: 0 and the bytes are taken, or -ENOSPC. */
int daemon_take_memory(struct daemon *d, uint64_t bytes);
void daemon_give_memory(struct daemon *d, uint64_t bytes);

/* What a clone of a guest with this much RAM is counted with. */
uint64_t daemon_clone_charge(const struct daemon *d, uint64_t ram_bytes);

/* A user of its own for one process. */
uid_t daemon_next_uid(struct daemon *d);

/* A host came up, or hears us, or not: if the cluster is whole now, whoever started us hears of it. */
void daemon_host_up(struct daemon *d);

/* Ends everything, then the loop. */
void daemon_stop(struct daemon *d);

#endif
