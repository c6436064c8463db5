/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pager.c (the process), pager_queue.c (what it was told) and pager_say.c (messages) share. */
#ifndef HOST_SFD_PAGER_INTERNAL_H
#define HOST_SFD_PAGER_INTERNAL_H

#include <event2/event.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "host/sfd/pager.h"

/* One thing said to sf-memtap, with the descriptors that belong to it (ours). */
struct saying {
	struct memtap_request request;
	int *fds;
	unsigned nfds;
	unsigned once; /* so many, the last ones, are not said again */
	bool sent;
	bool keep;   /* to be said again to the next one */
	bool marker; /* ends a repetition */
	pager_done *done;
	void *arg;
	TAILQ_ENTRY(saying) entry;
};
TAILQ_HEAD(sayings, saying);

struct pager {
	struct daemon *daemon;
	char name[64];
	uid_t uid;
	pid_t pid;
	int sock;
	struct event *readable, *writable;
	struct sayings pending; /* not answered yet, in order */
	struct sayings kept;	/* answered, valid still, in order */
	struct sayings going;	/* MEMTAP_FILE_GONE, to be said again */
	struct event *ask_again;
	int page_fds[MEMTAP_MAX_FILES]; /* -1: no such file */
	uint64_t ram_bytes; /* or the disk's */
	struct sockaddr_in group;
	uint32_t next_vm;
	unsigned deaths;
	uint64_t first_death_ns;
	bool given_up;
	void (*failed)(void *arg);
	void *arg;
};

void saying_free(struct saying *s);

/* Sends what can be sent now. */
void pager_flush(struct pager *p);

/*
 * Says something, with descriptors that are duplicated, of which the last `once` are not said again.
 * `keep`: to be said again to the next process. Return: 0, or -errno and `done` is not called.
 */
int pager_say(struct pager *p, const struct memtap_request *request, const int *fds,
	      unsigned nfds, unsigned once, bool keep, pager_done *done, void *arg);

/* That there is this clone is not to be said again. */
void pager_unkeep_clone(struct pager *p, uint32_t vm);

/* For the timer: p->going is said once more. */
void pager_ask_again(evutil_socket_t fd, short what, void *arg);

void pager_answered(struct pager *p, const struct memtap_reply *reply);

/*
 * Puts what was said and is still valid in front of what is not answered, in its order and marked
 * as said before; behind all of that a message that is new: only then memtap knows every snapshot
 * and lets the parent write. What an earlier repetition did not come to is marked already.
 */
void pager_repeat_all(struct pager *p);

/* No process any more: who waits for an answer gets none, and the family hears of it. */
void pager_give_up(struct pager *p);

#endif
