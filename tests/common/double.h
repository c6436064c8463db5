/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A double of the host and of the guest's agent, to exercise libsf without a VM.
 *
 * Each VM it plays is a XenStore server (the real one of sfd) behind a UNIX socket, where the real
 * libxenstore finds it: VM 0, the parent, at the standard place, clone k by XENSTORED_PATH =
 * double_socket(k). Requests are answered as proto/xenstore-tree.h says, but nothing is cloned: a
 * clone is a process of its own that is told another id. What a process "in" VM k sends to the
 * agent's socket counts as VM k's, by its process number.
 *
 * Everything is in a private /run; what waits, waits for an event, with a limit that a test never
 * meets.
 */
#ifndef TESTS_COMMON_DOUBLE_H
#define TESTS_COMMON_DOUBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOUBLE_VMS  4 /* the parent and three clones */
#define DOUBLE_ROOM 3 /* clones the "hosts" have room for */

/*
 * Gives this process a /run of its own and begins the double's process; to be called first. Return:
 * 0, or 77 where that is not allowed.
 */
int double_prepare(void);

void double_start(void);
void double_stop(void);

/* Where VM `vm` has its XenStore. */
const char *double_socket(unsigned vm);

/* Writes (value NULL: removes) a node of a VM's tree; relative to its home. */
void double_set(unsigned vm, const char *path, const char *value);

/*
 * From now on requests of VM 0 that begin with `verb` get this answer; "" none at all, NULL the
 * usual.
 */
void double_answer(const char *verb, const char *answer);

/* Answers the last request that got none. */
void double_answer_late(const char *answer);

/* What the agent does with requests: 0 serves, an errno refuses, -1 hangs up without an answer. */
void double_agent(int behaviour);

/* Whether the VM has the kernel module; it has, unless this says otherwise. */
void double_module(bool there);

/* A clone of the running ticket ends. `status` counts for "exited", `reason` for others. */
void double_end_clone(unsigned ticket, unsigned id, const char *state, int status,
		      const char *reason);

/* Closes every connection to XenStore; new ones are taken. */
void double_drop(void);

/*
 * Waits until VM 0 has asked for something that begins with `words`, `times` times. Return: false
 * after 10 s.
 */
bool double_await(const char *words, unsigned times);

/* Return: how many requests of VM 0 that begin with `words` came. */
unsigned double_count(const char *words);

/* Forgets the requests that came. */
void double_forget(void);

/* Waits until VM 0 has `watches` watches. Return: false after 10 s. */
bool double_await_watches(unsigned watches);

/* Return: answers in VM 0's tree that nobody has taken away, and watches. */
unsigned double_leftovers(void);

/* Return: the id of the last "arrived" at the agent; 0: none. */
unsigned double_arrived(void);

/* The result that VM `vm` gave. Return: its length; 0: none. */
size_t double_result(unsigned vm, char *data, size_t room);

#endif
