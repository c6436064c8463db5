// SPDX-License-Identifier: GPL-2.0-only
/*
 * The interface on the clones' segment: which one it is, who it was, and how it becomes another.
 *
 * Nothing is announced. A clone's MAC follows from its ID, so what others remember of an earlier
 * clone with that ID is still true; nobody has yet heard of an ID that is new; and what was known
 * of the parent stays true, since the parent has it still. The first frame teaches the bridges the
 * way. Broadcasts would wake every sibling in the moment when each of them is busiest.
 */
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/inetdevice.h>
#include <linux/nsproxy.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <net/addrconf.h>
#include <net/arp.h>
#include <net/ndisc.h>
#include <net/neighbour.h>

#include "snowflock.h"

static struct net_device *nic;		/* with a reference; changed under rtnl_lock() */
static netdevice_tracker nic_tracker;
static enum sfk_gate gate_before;
static struct sfk_identity parent;	/* who the NIC of this clone was */

/* ---- which one ---- */

/* Locked. */
static void let_go(void)
{
	if (!nic)
		return;
	sfk_gate_remove();
	netdev_put(nic, &nic_tracker);
	nic = NULL;
}

/* Locked. The gate stays where it is from one hold to the next. */
static int take(struct net_device *dev)
{
	int err;

	if (dev == nic)
		return 0;
	let_go();
	if (!dev)
		return 0;
	err = sfk_gate_install(dev);
	if (err)
		return err;
	nic = dev;
	netdev_hold(dev, &nic_tracker, GFP_KERNEL);
	return 0;
}

int sfk_nic_prepare(const char *name)
{
	struct net *net = current->nsproxy->net_ns;
	struct net_device *dev = NULL;
	int err = 0;

	rtnl_lock();
	if (*name) {
		dev = __dev_get_by_name(net, name);
		if (!dev || dev->type != ARPHRD_ETHER)
			err = -ENODEV;
	}
	if (!err)
		err = take(dev);
	rtnl_unlock();
	if (!err && dev)
		err = sfk_address_prepare(net);
	return err;
}

void sfk_nic_undo(void)
{
	sfk_address_undo();
}

/* The interface goes away, or into another namespace. */
static int on_event(struct notifier_block *block, unsigned long event, void *info)
{
	if (event == NETDEV_UNREGISTER && netdev_notifier_info_to_dev(info) == nic)
		let_go();
	return NOTIFY_DONE;
}

static struct notifier_block events = { .notifier_call = on_event };

int sfk_nic_init(void)
{
	return register_netdevice_notifier(&events);
}

void sfk_nic_exit(void)
{
	unregister_netdevice_notifier(&events);
	rtnl_lock();
	let_go();
	rtnl_unlock();
}

void sfk_nic_lock(void)
{
	rtnl_lock();
	if (nic)
		sfk_gate_freeze(nic);
}

void sfk_nic_unlock(bool clone)
{
	if (nic && !clone)
		sfk_gate_thaw(nic);
	rtnl_unlock();
}

/* ---- at the instant ---- */

void sfk_nic_quiet(void)
{
	gate_before = sfk_gate_set(SFK_GATE_CLOSED);
}

void sfk_nic_go_on(void)
{
	sfk_gate_set(gate_before);
}

bool sfk_identity_has4(const struct sfk_identity *identity, __be32 address)
{
	unsigned int i;

	for (i = 0; i < identity->count4; i++) {
		if (identity->ip4[i].address == address)
			return true;
	}
	return false;
}

bool sfk_identity_has6(const struct sfk_identity *identity, const struct in6_addr *address)
{
	unsigned int i;

	for (i = 0; i < identity->count6; i++) {
		if (ipv6_addr_equal(&identity->ip6[i].address, address))
			return true;
	}
	return false;
}

static void note_ip4(struct sfk_identity *identity, const struct net_device *dev)
{
	const struct in_device *in_dev = rcu_dereference_protected(dev->ip_ptr, true);
	const struct in_ifaddr *ifa = in_dev ? rcu_dereference_protected(in_dev->ifa_list, true) :
					       NULL;

	for (; ifa && identity->count4 < SFK_MAX_ADDRESSES;
	     ifa = rcu_dereference_protected(ifa->ifa_next, true)) {
		identity->ip4[identity->count4].address = ifa->ifa_local;
		identity->ip4[identity->count4++].prefix = ifa->ifa_prefixlen;
	}
}

static void note_ip6(struct sfk_identity *identity, const struct net_device *dev)
{
	const struct inet6_dev *idev = rcu_dereference_protected(dev->ip6_ptr, true);
	const struct inet6_ifaddr *ifa;

	if (!idev)
		return;
	list_for_each_entry(ifa, &idev->addr_list, if_list) {
		if (identity->count6 == SFK_MAX_ADDRESSES)
			break;
		identity->ip6[identity->count6].address = ifa->addr;
		identity->ip6[identity->count6++].prefix = ifa->prefix_len;
	}
}

void sfk_nic_forget_parent(void)
{
	if (!nic)
		return;
	parent.count4 = parent.count6 = 0;
	memcpy(parent.mac, nic->dev_addr, ETH_ALEN);
	note_ip4(&parent, nic);
	note_ip6(&parent, nic);
	sfk_gate_keep_silent(&parent);
}

/* ---- in a clone ---- */

struct virtio_device *sfk_nic_virtio(const struct net_device *dev)
{
	struct device *device = dev->dev.parent;

	if (!device || !device->bus || strcmp(device->bus->name, "virtio"))
		return NULL;
	return dev_to_virtio(device);
}

/* Return: true if the device itself looks at MACs, so that it has to be told of another. */
static bool device_filters(const struct net_device *dev)
{
	struct virtio_device *device = sfk_nic_virtio(dev);

	return !device || virtio_has_feature(device, VIRTIO_NET_F_CTRL_RX) ||
	       virtio_has_feature(device, VIRTIO_NET_F_CTRL_MAC_ADDR);
}

/* The way that every device knows. */
static int set_mac(struct net_device *dev, const u8 *mac)
{
	struct sockaddr address = { .sa_family = dev->type };
	bool up = dev->flags & IFF_UP;
	int err, err_open = 0;

	memcpy(address.sa_data, mac, ETH_ALEN);
	err = dev_set_mac_address(dev, &address, NULL);
	if (err != -EBUSY || !up)
		return err;
	dev_close(dev);
	err = dev_set_mac_address(dev, &address, NULL);
	err_open = dev_open(dev, NULL);
	return err ?: err_open;
}

/*
 * Where nobody but the stack knows the MAC, what dev_set_mac_address() comes down to: the two
 * protocols that resolve addresses forget whom they know, and with it headers made with the old
 * MAC. The rest is code that a clone would run for the first time, and had to get first. ARP
 * forgets all anyway as the last of the parent's addresses goes.
 */
static void set_mac_in_stack(struct net_device *dev, const u8 *mac)
{
	dev_addr_mod(dev, 0, mac, ETH_ALEN);
	dev->addr_assign_type = NET_ADDR_SET;
	if (!parent.count4)
		neigh_changeaddr(&arp_tbl, dev);
#if IS_ENABLED(CONFIG_IPV6)
	if (parent.count6)
		neigh_changeaddr(&nd_tbl, dev);
#endif
}

int sfk_nic_become(const struct sfk_letter *letter)
{
	if (!nic || !sfk_do_readdress || ether_addr_equal(nic->dev_addr, letter->mac))
		return 0;
	if (!is_valid_ether_addr(letter->mac))
		return -EADDRNOTAVAIL;
	if (device_filters(nic) || netdev_has_any_upper_dev(nic))
		return set_mac(nic, letter->mac);
	set_mac_in_stack(nic, letter->mac);
	return 0;
}

int sfk_nic_readdress(const struct sfk_letter *letter)
{
	return nic && sfk_do_readdress ? sfk_address_change(nic, &parent, letter) : 0;
}

void sfk_nic_speak(void)
{
	rtnl_lock();
	if (nic) {
		sfk_gate_purge(nic);
		sfk_gate_thaw(nic);
	}
	rtnl_unlock();
	sfk_gate_set(SFK_GATE_CLONE);
}

u32 sfk_nic_end_connections(void)
{
	return nic && sfk_do_connections ? sfk_connections_end(dev_net(nic), &parent) : 0;
}
