/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The double itself, in its process: double.c does what tests ask for with these. */
#ifndef TESTS_COMMON_PLAY_H
#define TESTS_COMMON_PLAY_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

struct play;

/* Takes its places in /run. Return: the double; every failure aborts. */
struct play *play_start(void);
void play_stop(struct play *d);

/* Writes what to poll() for; serves what is ready of it. */
unsigned play_fds(const struct play *d, struct pollfd *fds, unsigned room);
void play_serve(struct play *d, const struct pollfd *fds, unsigned count);

/* What double.h says of each. */
void play_set(struct play *d, unsigned vm, const char *path, const char *value);
void play_answer(struct play *d, const char *verb, const char *answer);
void play_answer_late(struct play *d, const char *answer);
void play_agent(struct play *d, int behaviour);
void play_module(struct play *d, bool there);
void play_end_clone(struct play *d, unsigned ticket, unsigned id, const char *state, int status,
		    const char *reason);
void play_drop(struct play *d);
unsigned play_count(const struct play *d, const char *words);
void play_forget(struct play *d);
unsigned play_watches(const struct play *d);
unsigned play_leftovers(struct play *d);
unsigned play_arrived(const struct play *d);
size_t play_result(const struct play *d, unsigned vm, char *data, size_t room);

#endif
