/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The kernel module, as the agent sees it: is it there, and holding the guest (proto/kmod.h). */
#ifndef AGENT_MODULE_H
#define AGENT_MODULE_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/loop.h"
#include "proto/agent-port.h"
#include "proto/kmod.h"

struct module {
	struct source folder;		/* inotify: the device comes and goes; fd -1: not told */
	struct loop *loop;
	const char *path;		/* of the device */
	const char *name;		/* the same in its folder */
	struct agent_window window;	/* pages 0: the module is not loaded */
	int fd;				/* prepared to hold; -1: not */
	void (*changed)(void *arg);
	void *arg;
};

/*
 * Looks for the device at `path`, and again whenever it comes or goes: `changed` is called then,
 * from the loop, with `window` as it is now. What there is, and what is missing without it, is
 * logged. The path must live as long as the module.
 */
void module_init(struct module *module, struct loop *loop, const char *path,
		 void (*changed)(void *arg), void *arg);

/* Return: true if the module is loaded, as far as is known now. */
bool module_is_there(const struct module *module);

/*
 * Gets ready to hold the guest for operation `op`, with `nic` ("": none) on the clones' segment.
 * The device stays open until module_release(). Return: 0, with the window in *window; or -errno.
 */
int module_prepare(struct module *module, uint64_t op, const char *nic,
		   struct agent_window *window);

/* Holds the guest; returns in the parent and in each clone. Return: 0 or -errno. */
int module_hold(const struct module *module, struct sfk_held *held);

/* Lets go of the device, if it is open. */
void module_release(struct module *module);

#endif
