/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Address, MAC and route in one message to the kernel.
 *
 * rtnetlink works off a batch within sendmsg() and answers only what fails, so taking a new
 * address costs one system call. The order matters: the parent's address goes before anything else
 * (and with it every route), the MAC before the new address comes. The change of MAC flushes the
 * NIC's neighbours. Nothing is announced: a clone's MAC follows from its ID, so what others
 * remember of an earlier clone with that ID is still true, and the first frame teaches the bridges
 * the way; broadcasts would wake every sibling in the moment when each of them is busiest. The
 * parent's MAC is the one this VM had, so a clone need not ask for it.
 *
 * IPv6 likewise: nobody else can have an address that follows from the ID, so there is no search
 * for duplicates, which would keep it from being used for a second. The link-local address follows
 * from the MAC; the kernel is told not to make one of its own, which would search.
 */
#include "agent/netcfg.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

enum step {	/* as nlmsg_seq, so that an error tells where it belongs */
	STEP_LOOPBACK = 1,
	STEP_OLD_ADDRESS,
	STEP_DOWN,
	STEP_NO_OWN_ADDRESS6,
	STEP_MAC,
	STEP_ADDRESS,
	STEP_ADDRESS6,
	STEP_ROUTE,
	STEP_PARENT,
	STEPS
};

static const char *const step_names[STEPS] = {
	[STEP_LOOPBACK] = "loopback up",   [STEP_OLD_ADDRESS] = "old address",
	[STEP_DOWN] = "down",		   [STEP_NO_OWN_ADDRESS6] = "IPv6 address generation",
	[STEP_MAC] = "MAC address",	   [STEP_ADDRESS] = "address",
	[STEP_ADDRESS6] = "IPv6 address",  [STEP_ROUTE] = "default route",
	[STEP_PARENT] = "parent's MAC",
};

/* Messages one behind the other. */
struct batch {
	size_t len;
	uint8_t bytes[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
};

static struct nlmsghdr *last_message(struct batch *batch, size_t at)
{
	return (struct nlmsghdr *)(batch->bytes + at);
}

/* Begins a message with its fixed part. Return: where it begins. */
static size_t add(struct batch *batch, enum step step, uint16_t type, uint16_t flags,
		  const void *body, size_t body_len)
{
	size_t at = batch->len;
	struct nlmsghdr *message = last_message(batch, at);

	*message = (struct nlmsghdr){ .nlmsg_len = (uint32_t)NLMSG_LENGTH(body_len),
				      .nlmsg_type = type, .nlmsg_seq = step,
				      .nlmsg_flags = NLM_F_REQUEST | flags };
	memcpy(NLMSG_DATA(message), body, body_len);
	batch->len += NLMSG_ALIGN(message->nlmsg_len);
	return at;
}

static void add_attribute(struct batch *batch, size_t at, uint16_t type, const void *value,
			  size_t len)
{
	struct nlmsghdr *message = last_message(batch, at);
	struct rtattr *attribute = (struct rtattr *)(batch->bytes + batch->len);

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(len);
	memcpy(RTA_DATA(attribute), value, len);
	batch->len += RTA_ALIGN(attribute->rta_len);
	message->nlmsg_len = (uint32_t)(batch->len - at);
}

static void add_link(struct batch *batch, enum step step, int index, bool up, const uint8_t *mac)
{
	struct ifinfomsg link = { .ifi_index = index, .ifi_flags = up ? IFF_UP : 0,
				  .ifi_change = IFF_UP };
	size_t at = add(batch, step, RTM_NEWLINK, 0, &link, sizeof(link));

	if (mac)
		add_attribute(batch, at, IFLA_ADDRESS, mac, 6);
}

static void add_address(struct batch *batch, enum step step, uint16_t type, int index,
			uint32_t address, uint8_t prefix)
{
	struct ifaddrmsg body = { .ifa_family = AF_INET, .ifa_prefixlen = prefix,
				  .ifa_index = (unsigned)index };
	uint32_t host_bits = htonl(prefix ? (uint32_t)((1ull << (32 - prefix)) - 1) : UINT32_MAX);
	uint32_t broadcast = address | host_bits;
	uint16_t flags = type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0;
	size_t at = add(batch, step, type, flags, &body, sizeof(body));

	add_attribute(batch, at, IFA_LOCAL, &address, sizeof(address));
	add_attribute(batch, at, IFA_ADDRESS, &address, sizeof(address));
	if (type == RTM_NEWADDR)
		add_attribute(batch, at, IFA_BROADCAST, &broadcast, sizeof(broadcast));
}

static void add_address6(struct batch *batch, enum step step, uint16_t type, int index,
			 const uint8_t address[16], uint8_t prefix)
{
	struct ifaddrmsg body = { .ifa_family = AF_INET6, .ifa_prefixlen = prefix,
				  .ifa_flags = type == RTM_NEWADDR ? IFA_F_NODAD : 0,
				  .ifa_index = (unsigned)index };
	uint16_t flags = type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_REPLACE : 0;
	size_t at = add(batch, step, type, flags, &body, sizeof(body));

	add_attribute(batch, at, IFA_ADDRESS, address, 16);
}

/* The address of the VM on its segment, and the one of its link (RFC 4291, appendix A). */
static void add_both6(struct batch *batch, enum step step, uint16_t type, int index,
		      const uint8_t mac[6], const uint8_t address[16], uint8_t prefix)
{
	uint8_t local[16] = { 0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe,
			      mac[3], mac[4], mac[5] };

	add_address6(batch, step, type, index, local, 64);
	add_address6(batch, step, type, index, address, prefix);
}

/* Keeps the kernel from making link-local addresses by itself. */
static void add_no_own6(struct batch *batch, int index)
{
	struct ifinfomsg link = { .ifi_index = index };
	const struct {
		struct rtattr family, mode;
		uint8_t value, padding[3];
	} spec = { .family = { .rta_len = sizeof(spec), .rta_type = AF_INET6 },
		   .mode = { .rta_len = RTA_LENGTH(1), .rta_type = IFLA_INET6_ADDR_GEN_MODE },
		   .value = IN6_ADDR_GEN_MODE_NONE };
	size_t at = add(batch, STEP_NO_OWN_ADDRESS6, RTM_NEWLINK, 0, &link, sizeof(link));

	add_attribute(batch, at, IFLA_AF_SPEC, &spec, sizeof(spec));
}

static void add_route(struct batch *batch, int index, uint32_t gateway)
{
	struct rtmsg body = { .rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN,
			      .rtm_protocol = RTPROT_BOOT, .rtm_scope = RT_SCOPE_UNIVERSE,
			      .rtm_type = RTN_UNICAST };
	size_t at = add(batch, STEP_ROUTE, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body,
			sizeof(body));

	add_attribute(batch, at, RTA_GATEWAY, &gateway, sizeof(gateway));
	add_attribute(batch, at, RTA_OIF, &index, sizeof(index));
}

static void add_neighbour(struct batch *batch, int index, uint32_t address, const uint8_t *mac)
{
	struct ndmsg body = { .ndm_family = AF_INET, .ndm_ifindex = index,
			      .ndm_state = NUD_REACHABLE };
	size_t at = add(batch, STEP_PARENT, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &body,
			sizeof(body));

	add_attribute(batch, at, NDA_DST, &address, sizeof(address));
	add_attribute(batch, at, NDA_LLADDR, mac, 6);
}

/* What has to change. `down`: the MAC of this NIC cannot be changed while it is up. */
static void fill(const struct netcfg *netcfg, const struct agent_resume *resume, bool down,
		 struct batch *batch)
{
	bool mac_changes = memcmp(netcfg->mac, resume->mac, sizeof(netcfg->mac)) != 0;
	int nic = netcfg->nic_index;

	batch->len = 0;
	if (!resume->op)
		add_link(batch, STEP_LOOPBACK, 1, true, NULL);
	if (netcfg->address)
		add_address(batch, STEP_OLD_ADDRESS, RTM_DELADDR, nic, netcfg->address,
			    netcfg->prefix);
	if (netcfg->prefix6)
		add_both6(batch, STEP_OLD_ADDRESS, RTM_DELADDR, nic, netcfg->mac,
			  netcfg->address6, netcfg->prefix6);
	if (resume->prefix6 && !resume->op)
		add_no_own6(batch, nic);
	if (down)
		add_link(batch, STEP_DOWN, nic, false, NULL);
	if (mac_changes && down)
		add_link(batch, STEP_MAC, nic, false, resume->mac);
	if (!resume->op || down || mac_changes)
		add_link(batch, STEP_MAC, nic, true, mac_changes && !down ? resume->mac : NULL);
	if (resume->address)
		add_address(batch, STEP_ADDRESS, RTM_NEWADDR, nic, resume->address,
			    resume->prefix);
	if (resume->prefix6)
		add_both6(batch, STEP_ADDRESS6, RTM_NEWADDR, nic, resume->mac, resume->address6,
			  resume->prefix6);
	if (resume->address && resume->gateway)
		add_route(batch, nic, resume->gateway);
	if (resume->id && !netcfg->id && netcfg->address == resume->parent && mac_changes)
		add_neighbour(batch, nic, resume->parent, netcfg->mac);
}

/* Sends a batch. Return: 0, or -errno of the first step that failed, which is in *failed. */
static int apply(struct netcfg *netcfg, const struct batch *batch, enum step *failed)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	uint8_t reply[1024] __attribute__((aligned(NLMSG_ALIGNTO)));
	int error = 0;
	ssize_t got;

	if (sendto(netcfg->fd, batch->bytes, batch->len, 0, (struct sockaddr *)&kernel,
		   sizeof(kernel)) < 0)
		return -errno;
	while ((got = recv(netcfg->fd, reply, sizeof(reply), MSG_DONTWAIT)) > 0) {
		struct nlmsghdr *message = (struct nlmsghdr *)reply;
		const struct nlmsgerr *e = NLMSG_DATA(message);

		if (!NLMSG_OK(message, (size_t)got) || message->nlmsg_type != NLMSG_ERROR)
			continue;
		if (!e->error || message->nlmsg_seq == STEP_OLD_ADDRESS || error)
			continue;
		error = e->error;
		*failed = message->nlmsg_seq < STEPS ? (enum step)message->nlmsg_seq : 0;
	}
	return error;
}

/* Finds the NIC, once. Return: 0 or -errno. */
static int open_netlink(struct netcfg *netcfg)
{
	if (netcfg->fd >= 0)
		return 0;
	netcfg->nic_index = (int)if_nametoindex(netcfg->nic);
	if (!netcfg->nic_index)
		return -errno;
	netcfg->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	return netcfg->fd < 0 ? -errno : 0;
}

static bool is_so(const struct netcfg *netcfg, const struct agent_resume *resume)
{
	return resume->op && netcfg->address == resume->address &&
	       netcfg->prefix == resume->prefix && netcfg->prefix6 == resume->prefix6 &&
	       !memcmp(netcfg->address6, resume->address6, sizeof(netcfg->address6)) &&
	       !memcmp(netcfg->mac, resume->mac, sizeof(netcfg->mac));
}

int netcfg_apply(struct netcfg *netcfg, const struct agent_resume *resume)
{
	enum step failed = 0;
	struct batch batch;
	int error;

	if (netcfg->off || is_so(netcfg, resume) || (!resume->address && !netcfg->address))
		return 0;
	error = resume->prefix > 32 || resume->prefix6 > 128 ? -EINVAL : open_netlink(netcfg);
	if (error) {
		log_err("network: %s: %s", netcfg->nic, strerror(-error));
		return error;
	}
	fill(netcfg, resume, false, &batch);
	error = apply(netcfg, &batch, &failed);
	if (error == -EBUSY && failed == STEP_MAC) {
		fill(netcfg, resume, true, &batch);
		error = apply(netcfg, &batch, &failed);
	}
	if (error) {
		log_err("network: %s: %s: %s", netcfg->nic,
			step_names[failed] ? step_names[failed] : "rtnetlink", strerror(-error));
		return error;
	}
	netcfg_take(netcfg, resume);
	return 0;
}

void netcfg_take(struct netcfg *netcfg, const struct agent_resume *resume)
{
	memcpy(netcfg->mac, resume->mac, sizeof(netcfg->mac));
	netcfg->address = resume->address;
	netcfg->prefix = resume->prefix;
	netcfg->prefix6 = resume->prefix6;
	memcpy(netcfg->address6, resume->address6, sizeof(netcfg->address6));
	netcfg->id = resume->id;
}

const char *netcfg_nic(const struct netcfg *netcfg)
{
	return netcfg->off ? "" : netcfg->nic;
}

void netcfg_init(struct netcfg *netcfg, const char *nic, bool off)
{
	*netcfg = (struct netcfg){ .nic = nic, .off = off, .fd = -1 };
}
