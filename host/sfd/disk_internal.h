/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What disk.c (the process), disk_ask.c (requests), disk_layers.c and disk_stack.c share. */
#ifndef HOST_SFD_DISK_INTERNAL_H
#define HOST_SFD_DISK_INTERNAL_H

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "host/sfd/disk.h"
#include "host/sfd/image.h"

/* A request under way. */
struct demand {
	struct vdisk_request request;
	int fds[2];
	unsigned nfds;
	bool sent;
	/* Called first, with what came with the reply; may be NULL, as may `done`. */
	void (*answered)(struct disk *k, struct demand *q, const struct vdisk_reply *reply, int fd);
	disk_done *done;
	disk_inherited *inherited;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
	struct disk_layer *merged; /* VDISK_MERGE: what the layers become */
	TAILQ_ENTRY(demand) entry;
};

struct disk {
	struct daemon *daemon;
	char name[160]; /* "vm h1.1: disk 0" */
	unsigned number;
	uint64_t bytes;
	pid_t pid;
	int pidfd, sock;
	struct event *exited, *readable, *writable;
	struct console *output;
	TAILQ_HEAD(, demand) demands;
	uint32_t next_tag;
	struct disk_stack stack; /* the top is the last one */
	unsigned foreign;	 /* of these, from the bottom: layers another VM made */
	struct disk_layer *spare;
	bool busy;		/* with a merge or a copy: one at a time */
	bool exporting;		/* somebody waits for a copy */
	struct demand *waiting; /* it, until the disk is not busy any more */
	void (*ended)(void *arg, const char *why);
	void *arg;
};

void demand_free(struct demand *q);
/* A request with these descriptors, which are duplicated; -1: none. Return: NULL with errno. */
struct demand *demand_new(uint32_t op, int fd0, int fd1);
/* Sends it, now or when there is room; it is the disk's from now on. */
void disk_ask(struct disk *k, struct demand *q);
/* For the events of the socket. */
void disk_writable(evutil_socket_t fd, short what, void *arg);
void disk_readable(evutil_socket_t sock, short what, void *arg);

/* ---- layers and stacks, counted ---- */

/* An empty layer. Return: 0 and *layer with one reference, or -errno. */
int layer_new(const struct daemon *d, uint64_t bytes, struct disk_layer **layer);
/* NULL is fine. */
void layer_put(struct disk_layer *layer);

/* The lowest `count` layers and the image, referenced once more. */
void disk_stack_copy(struct disk_stack *to, const struct disk_stack *from, unsigned count);

#endif
