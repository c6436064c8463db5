/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A machine of the test's own: a fresh network namespace for the process, with an embedded cluster
 * in it, on one CPU so that frames sent one after the other arrive in this order.
 */
#ifndef TESTS_VNET_WORLD_H
#define TESTS_VNET_WORLD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WORLD_MACHINE "203.0.113.1"	/* the machine's address */

struct vnet_segment;
struct vm;

/* Leaves the caller's namespace for a fresh one; ends the test with 77 where that cannot be. */
void world_start(void);

/* Makes the cluster. Return: its name. Ends the test if it fails. */
const char *world_cluster(unsigned hosts, pid_t *router);

/* Removes the cluster, and returns to the machine's namespace. */
void world_end(void);

/* Moves to host `k`, the wire (0), or the machine. */
bool world_enter(unsigned k);
bool world_leave(void);

/* A segment on host `k` with every other one of `hosts` as peer; moves there. NULL: failed. */
struct vnet_segment *world_segment(unsigned k, unsigned hosts, uint32_t vni, const char *base,
				   const char *gateway);

/* A port; `vm` gets what the VM there would have. Moves to host `k`. */
bool world_port(struct vnet_segment *segment, unsigned k, uint32_t vni, const char *base,
		unsigned id, struct vm *vm);

/* How many interfaces here have a name that starts with `prefix`. */
unsigned world_interfaces(const char *prefix);

/* True if there is no nftables table here. */
bool world_no_tables(void);

/* How many frames a port has refused and counted; on the host of the port. */
unsigned world_refused(uint32_t vni, unsigned id);

/* A UDP socket on any address of where the thread is; the second for IPv6, with a limit of 2 s. */
int world_udp(uint16_t port);
int world_udp6(uint16_t port);

/* True if this machine's kernel has IPv6 at all; if an interface here has none. */
bool world_has_ipv6(void);
bool world_ipv6_is_off(const char *interface);

/* Turns IPv6 on there and adds an address of a network of 64 bits, to be used at once. */
bool world_turn_on_ipv6(const char *interface, const struct in6_addr *address);

/* Runs the suite and ends with its result: 0 or 1. */
struct world_test {
	const char *name;
	void (*run)(void);
};
int world_run(const char *suite, const struct world_test *tests, size_t count);

#endif
