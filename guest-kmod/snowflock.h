/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of this module have for each other; proto/kmod.h says what the module does.
 *
 * Three contexts: "prepared" is process context before the instant of a clone, "held" is inside
 * stop_machine() with interrupts off on all CPUs, "clone" is process context of a clone afterwards.
 * A function for `held` takes no lock that anybody else could have and allocates nothing.
 *
 * Locks, outermost first: the device's mutex (main.c), rtnl_lock().
 */
#ifndef SNOWFLOCK_H
#define SNOWFLOCK_H

#include <linux/if_ether.h>
#include <linux/in6.h>
#include <linux/netdevice.h>
#include <linux/types.h>

#include "proto/kmod.h"

struct virtio_device;

/* ---- window.c: the pages that the host reads and writes ---- */

int sfk_window_create(void);

/* Gives the window back. `keep`: its pages stay allocated, because they are not ours alone. */
void sfk_window_destroy(bool keep);

void sfk_window_where(struct sfk_where *where);

/* Return: the bitmap of dead pages, with the number of its bits in *bits. */
unsigned long *sfk_window_bitmap(unsigned long *bits);

/* prepared: the bitmap is empty, no letter is there. */
void sfk_window_clear(void);

/* held: says that the guest is held now. `hold_ns`: what it took. */
void sfk_window_announce(u64 op, u64 dead, u64 hold_ns);

/* held: Return: true once the letter for `op` is there. */
bool sfk_window_has_letter(u64 op);

/* held: takes the letter out of the window, the secret part for good, and leaves the state idle. */
void sfk_window_take_letter(struct sfk_letter *letter);

/* held: says that the guest goes on without an answer. */
void sfk_window_give_up(void);

/* held, in a clone: the window is another one than the parent's and knows nothing yet. */
void sfk_window_renew(void);

/* ---- hold.c: the moment in which nothing else runs ---- */

struct sfk_hold {
	u64 op;
	u32 id;			/* this guest's until now */
	u64 begin_ns;		/* all three by ktime_get_mono_fast_ns() */
	u64 letter_ns;		/* as the letter was seen */
	bool clone;
	struct sfk_letter letter;
};

/* Holds the guest until the letter has come. Return: 0 or -ETIMEDOUT. */
int sfk_hold(struct sfk_hold *hold);

/* ---- dead.c: pages whose content nobody needs ---- */

/* prepared: frees can be recorded from here on. Return: 0 or -errno. */
int sfk_dead_prepare(void);
void sfk_dead_exit(void);

/* held: sets the bits of free pages, for SFK_DEAD_BUDGET_NS at most. Return: how many. */
u64 sfk_dead_declare(void);

/* held, in a clone: from here on the bit of every page that is freed is set. */
void sfk_dead_record(void);

/* ---- nic.c: the interface on the clones' segment ---- */

#define SFK_MAX_ADDRESSES 32	/* of one interface and one family */

/* Who a NIC is. */
struct sfk_identity {
	u8 mac[ETH_ALEN];
	unsigned int count4;
	unsigned int count6;
	struct {
		__be32 address;
		u8 prefix;
	} ip4[SFK_MAX_ADDRESSES];
	struct {
		struct in6_addr address;
		u8 prefix;
	} ip6[SFK_MAX_ADDRESSES];
};

/* Return: the virtio device behind the interface; NULL if it is another. */
struct virtio_device *sfk_nic_virtio(const struct net_device *dev);

bool sfk_identity_has4(const struct sfk_identity *identity, __be32 address);
bool sfk_identity_has6(const struct sfk_identity *identity, const struct in6_addr *address);

int sfk_nic_init(void);
void sfk_nic_exit(void);

/* prepared: takes the interface `name` of this process's network; "": none. Return: 0 or -errno. */
int sfk_nic_prepare(const char *name);

/* What SFK_PREPARE made for one hold is no longer needed. */
void sfk_nic_undo(void);

/*
 * Around a hold: nobody else changes interfaces meanwhile, and nothing is under way to the device.
 * What waits for it goes on in the parent, and in a clone stays until sfk_nic_speak().
 */
void sfk_nic_lock(void);
void sfk_nic_unlock(bool clone);

/* held: nothing leaves through the NIC. */
void sfk_nic_quiet(void);

/* held, in the parent: it goes on as before. */
void sfk_nic_go_on(void);

/* held, in a clone: what leaves from now on must not be of who the NIC was until now. */
void sfk_nic_forget_parent(void);

/* Locked, in a clone: the NIC has its MAC. Return: 0 or -errno. */
int sfk_nic_become(const struct sfk_letter *letter);

/* clone: sets addresses, routes and the parent as a neighbour. Return: 0 or -errno. */
int sfk_nic_readdress(const struct sfk_letter *letter);

/* clone: what waited to be sent is gone; what is not the parent's is let through from here on. */
void sfk_nic_speak(void);

/* clone: ends the connections of the parent's addresses. Return: how many were TCP. */
u32 sfk_nic_end_connections(void);

/* ---- gate.c: what may leave through the NIC ---- */

enum sfk_gate {
	SFK_GATE_OPEN,		/* everything */
	SFK_GATE_CLOSED,	/* nothing */
	SFK_GATE_CLONE,		/* what is not the parent's */
};

/* Locked. Return: 0 or -errno. */
int sfk_gate_install(struct net_device *dev);
void sfk_gate_remove(void);

/* Return: what it was before. */
enum sfk_gate sfk_gate_set(enum sfk_gate mode);

/* held: `parent` is whom SFK_GATE_CLONE keeps silent; it stays in place as long as the gate. */
void sfk_gate_keep_silent(const struct sfk_identity *parent);

/* Locked: frames that passed the gate go no further; what the device has already is sent. */
void sfk_gate_freeze(struct net_device *dev);

/* Locked: drops the frames that go no further. */
void sfk_gate_purge(struct net_device *dev);

/* Locked: frames go again. */
void sfk_gate_thaw(struct net_device *dev);

/* ---- address.c: a NIC's addresses, by rtnetlink ---- */

/* prepared: makes ready to set addresses in `net`. Return: 0 or -errno. */
int sfk_address_prepare(struct net *net);
void sfk_address_undo(void);

/* clone: takes `old`, gives what the letter says. Return: 0 or -errno of the first that failed. */
int sfk_address_change(struct net_device *dev, const struct sfk_identity *old,
		       const struct sfk_letter *letter);

/* ---- connections.c ---- */

/* clone: ends what is connected from an address of `old`. Return: how many were TCP. */
u32 sfk_connections_end(struct net *net, const struct sfk_identity *old);

/* ---- fork.c: random numbers and the clock ---- */

/* prepared. Return: 0 or -errno. */
int sfk_fork_prepare(void);
void sfk_fork_undo(void);

/* held, in a clone: the kernel's random numbers are this clone's own from here on. */
void sfk_fork_reseed(struct sfk_letter *letter);

/* clone: calls the kernel's vmfork notifiers. */
void sfk_fork_notify(void);

/*
 * After a hold: sets CLOCK_REALTIME by the letter, which was seen at `letter_ns`. `exact`: it says
 * what time it was then; otherwise, what time it was at least.
 */
void sfk_fork_set_clock(const struct sfk_letter *letter, u64 letter_ns, bool exact);

/* ---- main.c: switches, for tests and for finding faults; all on, or the default ---- */

extern bool sfk_do_gate, sfk_do_readdress, sfk_do_connections, sfk_do_reseed, sfk_do_hints,
	sfk_do_later, sfk_do_clock;
extern unsigned int sfk_wait_s;

#endif
