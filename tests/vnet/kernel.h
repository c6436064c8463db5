/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This machine's kernel behind a port, in a namespace of its own: a guest's IPv6 without a guest. */
#ifndef TESTS_VNET_KERNEL_H
#define TESTS_VNET_KERNEL_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "tests/vnet/frames.h"

struct kernel {
	const struct vm *vm;
	int tap;		/* its NIC, to be joined to the port */
	int udp;		/* a socket there on KERNEL_PORT */
	unsigned nic;		/* its index there */
};

#define KERNEL_PORT 7

/*
 * Gives a kernel the VM's MAC and both of its IPv6 addresses. Return: false if it cannot be, with
 * errno; the thread is then in no namespace to go on with. On success it is where it was.
 */
bool kernel_start(struct kernel *kernel, const struct vm *vm);

/* Takes it away, with all it had. */
void kernel_stop(struct kernel *kernel);

/*
 * Sends a text of `bytes` bytes to an address, as the kernel does that, and lets frames pass until the
 * other one has heard it. Return: false after two seconds.
 */
bool kernel_say(struct kernel *from, struct kernel *to, const struct in6_addr *address,
		size_t bytes);

#endif
