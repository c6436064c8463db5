/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Programs of the guest's owner that run in a clone before anybody is told that it is one. */
#ifndef AGENT_HOOKS_H
#define AGENT_HOOKS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/loop.h"
#include "proto/agent-port.h"

#define HOOKS_LIMIT_S 10	/* for each */
#define HOOKS_VARIABLES 5

struct hooks {
	struct loop *loop;
	const char *folder;
	unsigned limit_s;
	char **names;			/* in the order they run; found by hooks_scan() */
	unsigned count, next;		/* next: to be started */
	struct source ended;		/* pidfd of the one that runs; -1: none */
	struct source timer;		/* -1 unless hooks run */
	pid_t pid;
	char variables[HOOKS_VARIABLES][32];
	void (*done)(void *arg);
	void *arg;
};

/*
 * `folder` must live as long as the hooks. `limit_s`: a hook that takes longer is killed. `done` is
 * called when all have ended.
 */
void hooks_init(struct hooks *hooks, struct loop *loop, const char *folder, unsigned limit_s,
		void (*done)(void *arg), void *arg);

/* In the parent: looks which there are. */
void hooks_scan(struct hooks *hooks);

/*
 * In a clone: runs them, one after the other, while the loop is held. Return: true if `done` is
 * called later; false if there are none.
 */
bool hooks_begin(struct hooks *hooks, const struct agent_resume *resume);

#endif
