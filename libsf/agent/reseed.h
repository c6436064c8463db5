/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Random numbers of the guest's kernel, where no module can give it new keys. */
#ifndef AGENT_RESEED_H
#define AGENT_RESEED_H

#include "proto/agent-port.h"

/* Opens what reseed() needs, so that a clone need not. Return: the descriptor; -1: none. */
int reseed_open(void);

/*
 * Makes the kernel's random numbers other than those of the parent and of all other clones, from
 * now on. What is mixed in is no secret of this clone's: the parent could know them.
 */
void reseed(int fd, const struct agent_resume *resume);

#endif
