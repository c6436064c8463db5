// SPDX-License-Identifier: GPL-2.0-only
/*
 * A NIC's addresses, by rtnetlink: the kernel has no other way to them that a module could take.
 *
 * One socket buffer holds all the messages and goes straight to the other end; only what fails is
 * answered. The order matters: the parent's addresses go first, and with them every route.
 */
#include <linux/etherdevice.h>
#include <linux/inetdevice.h>
#include <linux/net.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/socket.h>
#include <net/addrconf.h>
#include <net/netlink.h>
#include <net/sock.h>

#include "snowflock.h"

/*
 * Enough for what nearly every NIC needs, and not so much that rtnetlink would copy it into less:
 * of a clone's first milliseconds each goes into running code for the first time.
 */
#define BATCH_BYTES 700u
#define LARGE_BATCH_BYTES 8000u	/* enough for SFK_MAX_ADDRESSES of both families */

enum step {	/* as nlmsg_seq, so that an error tells where it belongs */
	STEP_TAKE = 1,	/* one that has gone already is as good */
	STEP_GIVE,
};

static struct socket *socket;
static u32 port;
static struct sk_buff *batch;	/* for the messages; made before, because a clone is cold */

/* ---- messages ---- */

/* Adds a message with its fixed part. Return: where to put the attributes; NULL: no room. */
static struct nlmsghdr *add(enum step step, int type, int flags,
			    const void *body, int body_bytes)
{
	struct nlmsghdr *message = nlmsg_put(batch, port, step, type, body_bytes,
					     NLM_F_REQUEST | flags);

	if (message)
		memcpy(nlmsg_data(message), body, body_bytes);
	return message;
}

static int add_ip4(int type, const struct net_device *dev, __be32 address, u8 prefix)
{
	bool give = type == RTM_NEWADDR;
	struct ifaddrmsg body = { .ifa_family = AF_INET, .ifa_prefixlen = prefix,
				  .ifa_index = dev->ifindex };
	struct nlmsghdr *message = add(give ? STEP_GIVE : STEP_TAKE, type,
				       give ? NLM_F_CREATE | NLM_F_REPLACE : 0, &body,
				       sizeof(body));

	if (!message || nla_put_in_addr(batch, IFA_LOCAL, address) ||
	    nla_put_in_addr(batch, IFA_ADDRESS, address))
		return -EMSGSIZE;
	if (give && prefix < 31 &&
	    nla_put_in_addr(batch, IFA_BROADCAST, address | ~inet_make_mask(prefix)))
		return -EMSGSIZE;
	nlmsg_end(batch, message);
	return 0;
}

static int add_ip6(int type, const struct net_device *dev, const struct in6_addr *address,
		   u8 prefix)
{
	bool give = type == RTM_NEWADDR;
	struct ifaddrmsg body = { .ifa_family = AF_INET6, .ifa_prefixlen = prefix,
				  .ifa_index = dev->ifindex };
	struct nlmsghdr *message = add(give ? STEP_GIVE : STEP_TAKE, type,
				       give ? NLM_F_CREATE | NLM_F_REPLACE : 0, &body,
				       sizeof(body));

	if (!message || nla_put_in6_addr(batch, IFA_LOCAL, address) ||
	    (give && nla_put_u32(batch, IFA_FLAGS, IFA_F_NODAD)))
		return -EMSGSIZE;
	nlmsg_end(batch, message);
	return 0;
}

static int add_default_route(const struct net_device *dev, __be32 gateway)
{
	struct rtmsg body = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE,
			      .rtm_type = RTN_UNICAST };
	struct nlmsghdr *message = add(STEP_GIVE, RTM_NEWROUTE,
				       NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof(body));

	if (!message || nla_put_in_addr(batch, RTA_GATEWAY, gateway) ||
	    nla_put_u32(batch, RTA_OIF, dev->ifindex))
		return -EMSGSIZE;
	nlmsg_end(batch, message);
	return 0;
}

static int add_neighbour(const struct net_device *dev, __be32 address, const u8 *mac)
{
	struct ndmsg body = { .ndm_family = AF_INET, .ndm_ifindex = dev->ifindex,
			      .ndm_state = NUD_REACHABLE };
	struct nlmsghdr *message = add(STEP_GIVE, RTM_NEWNEIGH,
				       NLM_F_CREATE | NLM_F_REPLACE, &body, sizeof(body));

	if (!message || nla_put_in_addr(batch, NDA_DST, address) ||
	    nla_put(batch, NDA_LLADDR, ETH_ALEN, mac))
		return -EMSGSIZE;
	nlmsg_end(batch, message);
	return 0;
}

/* ---- what has to change ---- */

static int take_old(const struct net_device *dev, const struct sfk_identity *old)
{
	unsigned int i;
	int err = 0;

	for (i = 0; i < old->count4 && !err; i++)
		err = add_ip4(RTM_DELADDR, dev, old->ip4[i].address, old->ip4[i].prefix);
	for (i = 0; i < old->count6 && !err; i++)
		err = add_ip6(RTM_DELADDR, dev, &old->ip6[i].address, old->ip6[i].prefix);
	return err;
}

static int give_ip4(const struct net_device *dev, const struct sfk_identity *old,
		    const struct sfk_letter *letter)
{
	int err;

	if (!letter->prefix)
		return 0;
	err = add_ip4(RTM_NEWADDR, dev, letter->address, letter->prefix);
	if (!err && letter->gateway)
		err = add_default_route(dev, letter->gateway);
	/* The parent's MAC is the one that this NIC had, so nobody needs to ask for it. */
	if (!err && sfk_identity_has4(old, letter->parent) &&
	    !ether_addr_equal(old->mac, letter->mac))
		err = add_neighbour(dev, letter->parent, old->mac);
	return err;
}

static bool had_link_local(const struct sfk_identity *old)
{
	unsigned int i;

	for (i = 0; i < old->count6; i++) {
		if (ipv6_addr_type(&old->ip6[i].address) & IPV6_ADDR_LINKLOCAL)
			return true;
	}
	return false;
}

static void link_local(struct in6_addr *address, const u8 *mac)
{
	*address = (struct in6_addr){ .s6_addr = { 0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2],
						   0xff, 0xfe, mac[3], mac[4], mac[5] } };
}

static int give_ip6(const struct net_device *dev, const struct sfk_identity *old,
		    const struct sfk_letter *letter)
{
	const struct inet6_dev *idev = __in6_dev_get_safely(dev);
	struct in6_addr address;
	int err = 0;

	if (!idev || idev->cnf.disable_ipv6)
		return 0;
	if (letter->prefix6 || had_link_local(old)) {
		link_local(&address, letter->mac);
		err = add_ip6(RTM_NEWADDR, dev, &address, 64);
	}
	if (!err && letter->prefix6) {
		memcpy(&address, letter->address6, sizeof(address));
		err = add_ip6(RTM_NEWADDR, dev, &address, letter->prefix6);
	}
	return err;
}

static int fill(const struct net_device *dev, const struct sfk_identity *old,
		const struct sfk_letter *letter)
{
	return take_old(dev, old) ?: give_ip4(dev, old, letter) ?: give_ip6(dev, old, letter);
}

/* ---- sending ---- */

/* Reads what was answered. Return: 0, or -errno of the first step that failed. */
static int read_errors(void)
{
	struct sk_buff *answer;
	int err = 0;

	while ((answer = skb_dequeue(&socket->sk->sk_receive_queue))) {
		const struct nlmsghdr *message = nlmsg_hdr(answer);
		const struct nlmsgerr *e = nlmsg_data(message);

		if (nlmsg_ok(message, answer->len) && message->nlmsg_type == NLMSG_ERROR &&
		    e->msg.nlmsg_seq == STEP_GIVE && !err)
			err = e->error;
		kfree_skb(answer);
	}
	return err;
}

int sfk_address_change(struct net_device *dev, const struct sfk_identity *old,
		       const struct sfk_letter *letter)
{
	int err = fill(dev, old, letter);

	if (err == -EMSGSIZE) {
		nlmsg_free(batch);
		batch = nlmsg_new(LARGE_BATCH_BYTES, GFP_KERNEL);
		err = batch ? fill(dev, old, letter) : -ENOMEM;
	}
	if (err)
		return err;
	NETLINK_CB(batch).portid = port;
	NETLINK_CB(batch).flags = NETLINK_SKB_DST;	/* it has no file that says who may */
	err = netlink_unicast(socket->sk, batch, 0, MSG_DONTWAIT);
	batch = NULL;
	return err < 0 ? err : read_errors();
}

int sfk_address_prepare(struct net *net)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int err;

	sfk_address_undo();
	err = sock_create_kern(net, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &socket);
	if (err)
		return err;
	err = kernel_bind(socket, (struct sockaddr *)&address, sizeof(address));
	if (!err)
		err = kernel_getsockname(socket, (struct sockaddr *)&address);
	if (err >= 0) {
		port = address.nl_pid;
		batch = nlmsg_new(BATCH_BYTES, GFP_KERNEL);
		err = batch ? 0 : -ENOMEM;
	}
	if (err)
		sfk_address_undo();
	return err;
}

void sfk_address_undo(void)
{
	nlmsg_free(batch);
	batch = NULL;
	if (socket)
		sock_release(socket);
	socket = NULL;
}
