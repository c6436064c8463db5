// SPDX-License-Identifier: GPL-2.0-only
/*
 * Connections that a clone inherits are its parent's: here they end, with an error, at once.
 *
 * That goes by the local address. What listens, what is on loopback and UNIX sockets have no
 * address of the NIC's and stay. A connected UDP socket loses its peer and hears of it once; one
 * that is merely bound has no conversation to end.
 */
#include <linux/errno.h>
#include <linux/ipv6.h>
#include <linux/rculist_nulls.h>
#include <net/inet_hashtables.h>
#include <net/net_namespace.h>
#include <net/sock.h>
#include <net/tcp.h>
#include <net/tcp_states.h>
#include <net/udp.h>

#include "snowflock.h"

static bool is_from(const struct sock *sk, const struct sfk_identity *old)
{
	const struct in6_addr *address = &sk->sk_v6_rcv_saddr;

	if (sk->sk_family == AF_INET)
		return sfk_identity_has4(old, sk->sk_rcv_saddr);
	if (sk->sk_family != AF_INET6)
		return false;
	if (ipv6_addr_v4mapped(address))
		return sfk_identity_has4(old, address->s6_addr32[3]);
	return sfk_identity_has6(old, address);
}

/* What is left of a connection in TIME_WAIT can neither speak nor be heard. */
static bool tcp_ends(const struct sock *sk, const struct net *net, const struct sfk_identity *old)
{
	return net_eq(sock_net(sk), net) && sk->sk_state != TCP_TIME_WAIT && is_from(sk, old);
}

/* Return: a connection in this place that is to end, with a reference; NULL: none. */
static struct sock *find_tcp(struct inet_hashinfo *info, unsigned int slot, const struct net *net,
			     const struct sfk_identity *old)
{
	spinlock_t *lock = inet_ehash_lockp(info, slot);
	struct hlist_nulls_node *node;
	struct sock *sk, *found = NULL;

	spin_lock_bh(lock);
	sk_nulls_for_each(sk, node, &info->ehash[slot].chain) {
		if (tcp_ends(sk, net, old) && refcount_inc_not_zero(&sk->sk_refcnt)) {
			found = sk;
			break;
		}
	}
	spin_unlock_bh(lock);
	return found;
}

static u32 end_tcp(struct net *net, const struct sfk_identity *old)
{
	struct inet_hashinfo *info = net->ipv4.tcp_death_row.hashinfo;
	unsigned int slot;
	u32 ended = 0;

	for (slot = 0; slot <= info->ehash_mask; slot++) {
		struct sock *sk;

		while (!hlist_nulls_empty(&info->ehash[slot].chain) &&
		       (sk = find_tcp(info, slot, net, old))) {
			int err = tcp_abort(sk, ECONNABORTED);

			sock_gen_put(sk);
			if (err)
				break;
			ended++;
		}
		cond_resched();
	}
	return ended;
}

static bool udp_ends(const struct sock *sk, const struct net *net, const struct sfk_identity *old)
{
	return net_eq(sock_net(sk), net) && sk->sk_state == TCP_ESTABLISHED && is_from(sk, old);
}

static struct sock *find_udp(struct udp_hslot *slot, const struct net *net,
			     const struct sfk_identity *old)
{
	struct sock *sk, *found = NULL;

	spin_lock_bh(&slot->lock);
	sk_for_each(sk, &slot->head) {
		if (udp_ends(sk, net, old) && refcount_inc_not_zero(&sk->sk_refcnt)) {
			found = sk;
			break;
		}
	}
	spin_unlock_bh(&slot->lock);
	return found;
}

static void end_udp(const struct net *net, const struct sfk_identity *old)
{
	unsigned int i;

	for (i = 0; i <= udp_table.mask; i++) {
		struct udp_hslot *slot = &udp_table.hash[i];
		struct sock *sk;

		while (!hlist_empty(&slot->head) && (sk = find_udp(slot, net, old))) {
			udp_abort(sk, ECONNABORTED);
			sock_put(sk);
		}
	}
}

u32 sfk_connections_end(struct net *net, const struct sfk_identity *old)
{
	end_udp(net, old);
	return end_tcp(net, old);
}
