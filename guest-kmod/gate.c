// SPDX-License-Identifier: GPL-2.0-only
/*
 * The gate: no frame of a clone leaves under its parent's name.
 *
 * A netfilter hook sees every frame before it is queued for the NIC. It is shut in the instant of
 * the clone; in the parent it is open again before anything else runs, so nothing of the parent's
 * is lost. In a clone it lets through, for ever, only what is not the parent's: a program that had
 * half built a packet, or a socket nobody thought of, cannot get it out later.
 *
 * Frames that have passed the hook wait in queues in front of the driver, and then for the device.
 * Before a hold the queues are frozen, by the bit that is also used to lock them, and what the
 * device has is waited for while everything else runs. So what is there at the instant is still
 * ours: the parent sends it, a clone throws it away.
 */
#include <linux/delay.h>
#include <linux/etherdevice.h>
#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <linux/netfilter_netdev.h>
#include <linux/timekeeping.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <net/ipv6.h>
#include <net/sch_generic.h>

#include "snowflock.h"

#define DRAIN_LIMIT_NS (20 * NSEC_PER_MSEC)	/* a device that is stuck is not waited for */

static enum sfk_gate gate = SFK_GATE_OPEN;
static const struct sfk_identity *silent;

/* An ARP packet of Ethernet and IPv4: who says it, in both ways. */
struct arp_sender {
	struct arphdr head;
	u8 mac[ETH_ALEN];
	__be32 address;
} __packed;

static bool arp_is_silent(const struct sk_buff *skb, int at)
{
	struct arp_sender buffer;
	const struct arp_sender *arp = skb_header_pointer(skb, at, sizeof(buffer), &buffer);

	return arp && (ether_addr_equal_unaligned(arp->mac, silent->mac) ||
		       sfk_identity_has4(silent, get_unaligned(&arp->address)));
}

static bool ip4_is_silent(const struct sk_buff *skb, int at)
{
	struct iphdr buffer;
	const struct iphdr *ip = skb_header_pointer(skb, at, sizeof(buffer), &buffer);

	return ip && sfk_identity_has4(silent, ip->saddr);
}

static bool ip6_is_silent(const struct sk_buff *skb, int at)
{
	struct ipv6hdr buffer;
	const struct ipv6hdr *ip = skb_header_pointer(skb, at, sizeof(buffer), &buffer);

	return ip && sfk_identity_has6(silent, &ip->saddr);
}

/* Behind VLAN tags, if there are some. Return: the protocol, with where it begins in *at. */
static __be16 protocol_of(const struct sk_buff *skb, __be16 protocol, int *at)
{
	struct vlan_hdr buffer;
	const struct vlan_hdr *tag;

	while (eth_type_vlan(protocol)) {
		tag = skb_header_pointer(skb, *at, sizeof(buffer), &buffer);
		if (!tag)
			break;
		protocol = tag->h_vlan_encapsulated_proto;
		*at += VLAN_HLEN;
	}
	return protocol;
}

static bool is_silent(const struct sk_buff *skb)
{
	struct ethhdr buffer;
	const struct ethhdr *eth = skb_header_pointer(skb, 0, sizeof(buffer), &buffer);
	int at = ETH_HLEN;

	if (!eth || ether_addr_equal_unaligned(eth->h_source, silent->mac))
		return true;
	switch (protocol_of(skb, eth->h_proto, &at)) {
	case htons(ETH_P_ARP):
		return arp_is_silent(skb, at);
	case htons(ETH_P_IP):
		return ip4_is_silent(skb, at);
	case htons(ETH_P_IPV6):
		return ip6_is_silent(skb, at);
	default:
		return false;
	}
}

static unsigned int on_frame(void *priv, struct sk_buff *skb, const struct nf_hook_state *state)
{
	switch (READ_ONCE(gate)) {
	case SFK_GATE_CLOSED:
		return NF_DROP;
	case SFK_GATE_CLONE:
		return is_silent(skb) ? NF_DROP : NF_ACCEPT;
	default:
		return NF_ACCEPT;
	}
}

static struct nf_hook_ops hook = {
	.hook = on_frame,
	.pf = NFPROTO_NETDEV,
	.hooknum = NF_NETDEV_EGRESS,
	.priority = INT_MAX,
};

int sfk_gate_install(struct net_device *dev)
{
	int err;

	hook.dev = dev;
	err = nf_register_net_hook(dev_net(dev), &hook);
	if (err)
		hook.dev = NULL;
	return err;
}

void sfk_gate_remove(void)
{
	if (!hook.dev)
		return;
	nf_unregister_net_hook(dev_net(hook.dev), &hook);
	hook.dev = NULL;
}

enum sfk_gate sfk_gate_set(enum sfk_gate mode)
{
	enum sfk_gate before = gate;

	WRITE_ONCE(gate, sfk_do_gate ? mode : SFK_GATE_OPEN);
	return before;
}

void sfk_gate_keep_silent(const struct sfk_identity *parent)
{
	silent = parent;
}

/* Return: true if the device has sent all that was given to this queue of its. */
static bool is_drained(struct virtqueue *queue)
{
	const struct vring *ring = virtqueue_get_vring(queue);

	return READ_ONCE(ring->avail->idx) == READ_ONCE(ring->used->idx);
}

static bool all_drained(struct virtio_device *device)
{
	struct virtqueue *queue;
	bool all = true;

	spin_lock(&device->vqs_list_lock);
	list_for_each_entry(queue, &device->vqs, list) {
		if (!strncmp(queue->name, "output", strlen("output")))
			all &= is_drained(queue);
	}
	spin_unlock(&device->vqs_list_lock);
	return all;
}

/* Other devices than virtio's are not known to leave frames for later. */
static void drain(struct net_device *dev)
{
	struct virtio_device *device = sfk_nic_virtio(dev);
	u64 until_ns = ktime_get_ns() + DRAIN_LIMIT_NS;

	if (!device || virtio_has_feature(device, VIRTIO_F_RING_PACKED))
		return;
	while (!all_drained(device) && ktime_get_ns() < until_ns)
		usleep_range(50, 100);
}

void sfk_gate_freeze(struct net_device *dev)
{
	unsigned int i;

	if (!sfk_do_gate)
		return;
	for (i = 0; i < dev->num_tx_queues; i++) {
		struct netdev_queue *queue = netdev_get_tx_queue(dev, i);

		__netif_tx_lock_bh(queue);	/* nobody is beyond the bit */
		set_bit(__QUEUE_STATE_FROZEN, &queue->state);
		__netif_tx_unlock_bh(queue);
	}
	drain(dev);
}

void sfk_gate_purge(struct net_device *dev)
{
	if (sfk_do_gate)
		qdisc_reset_all_tx_gt(dev, 0);
}

void sfk_gate_thaw(struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < dev->num_tx_queues; i++) {
		struct netdev_queue *queue = netdev_get_tx_queue(dev, i);

		clear_bit(__QUEUE_STATE_FROZEN, &queue->state);
		netif_schedule_queue(queue);
	}
}
