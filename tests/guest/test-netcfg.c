/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent sets addresses, in a network namespace of its own with a NIC that leads nowhere. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

#define ROOM 65536

static char out[ROOM], err[ROOM];

static void run(const struct guest *g, int port, int xs)
{
	static const char *const options[] = { "--nic=seg0", NULL };

	if (!guest_own_network())
		_exit(1);
	guest_run_agent(g, port, xs, options);
}

/* Has the agent be `id`; realtime_ns 0: it leaves this machine's clock alone. */
static void become(struct guest *g, uint64_t op, uint32_t id, uint8_t prefix6)
{
	struct agent_resume resume = { .op = op, .id = id, .count = 4, .prefix = 20,
				       .prefix6 = prefix6,
				       .mac = { 2, 0, 0, 0, 0, (uint8_t)(1 + id) },
				       .address = htonl(0x0a4d0001 + id),
				       .gateway = inet_addr("10.77.15.254"),
				       .parent = inet_addr("10.77.0.1") };
	const struct agent_status *status;

	if (prefix6)
		inet_pton(AF_INET6, "fd00:5f::1", resume.address6);
	resume.address6[15] = prefix6 ? (uint8_t)(1 + id) : 0;
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	status = guest_expect(g, AGENT_RESUMED, 0);
	CU_ASSERT_EQUAL(status->value, 0);
}

static void shell(struct guest *g, uint32_t stream, const char *command, const char *expected)
{
	guest_exec(g, stream, 0, "sh", "-c", command, NULL);
	CU_ASSERT_EQUAL(guest_output(g, stream, out, err, ROOM), 0);
	CU_ASSERT_STRING_EQUAL(out, expected);
	if (strcmp(out, expected))
		fprintf(stderr, "%s\n%s%s", command, out, err);
}

#define ADDRESSES "ip -o addr show dev seg0 | sed 's/.*inet/inet/;s/ *\\\\.*//'"
#define LINK "ip -o link show dev seg0 | sed 's/.*ether //;s/ .*//'"

static struct guest *boot(uint8_t prefix6)
{
	struct guest *g = guest_start_by(run);

	guest_expect(g, AGENT_HELLO, 0);
	become(g, 0, 0, prefix6);
	return g;
}

static void a_clone_takes_its_address(void)
{
	struct guest *g = boot(0);

	shell(g, 1, "ip -o -4 addr show dev seg0 | sed 's/.*inet/inet/;s/ *\\\\.*//'",
	      "inet 10.77.0.1/20 brd 10.77.15.255 scope global seg0\n");
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	become(g, 1, 2, 0);
	shell(g, 2, "ip -o -4 addr show dev seg0 | sed 's/.*inet/inet/;s/ *\\\\.*//'",
	      "inet 10.77.0.3/20 brd 10.77.15.255 scope global seg0\n");
	shell(g, 3, LINK, "02:00:00:00:00:03\n");
	shell(g, 4, "ip route show default", "default via 10.77.15.254 dev seg0 \n");
	guest_stop(g);
}

/* Both of IPv6 at once usable: what the kernel still searches duplicates of is "tentative". */
static void a_clone_takes_its_addresses_of_both_kinds(void)
{
	struct guest *g = boot(64);

	shell(g, 1, ADDRESSES,
	      "inet 10.77.0.1/20 brd 10.77.15.255 scope global seg0\n"
	      "inet6 fd00:5f::1/64 scope global nodad\n"
	      "inet6 fe80::ff:fe00:1/64 scope link nodad\n");
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	become(g, 1, 2, 64);
	shell(g, 2, ADDRESSES,
	      "inet 10.77.0.3/20 brd 10.77.15.255 scope global seg0\n"
	      "inet6 fd00:5f::3/64 scope global nodad\n"
	      "inet6 fe80::ff:fe00:3/64 scope link nodad\n");
	shell(g, 3, LINK, "02:00:00:00:00:03\n");
	shell(g, 4, "ip -6 route show dev seg0 | sed 's/ metric.*//' | sort",
	      "fd00:5f::/64 proto kernel\nfe80::/64 proto kernel\n");
	guest_stop(g);
}

static void the_parent_keeps_what_it_has(void)
{
	struct guest *g = boot(64);

	shell(g, 1, "ip addr add 10.99.0.1/24 dev seg0; " ADDRESSES " | grep -c inet", "4\n");
	guest_quiesce(g, 1);
	guest_expect(g, AGENT_QUIESCED, 0);
	become(g, 1, 0, 64);
	shell(g, 2, ADDRESSES " | grep -c inet", "4\n");
	guest_stop(g);
}

static void nonsense_is_refused(void)
{
	struct agent_resume resume = { .prefix = 20, .prefix6 = 129, .address = 1 };
	struct guest *g = guest_start_by(run);
	const struct agent_status *status;

	guest_expect(g, AGENT_HELLO, 0);
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	status = guest_expect(g, AGENT_RESUMED, 0);
	CU_ASSERT_EQUAL(status->value, EINVAL);
	guest_stop(g);
}

int main(void)
{
	static const CU_TestInfo tests[] = {
		{ "a clone takes its address", a_clone_takes_its_address },
		{ "a clone takes its addresses of both kinds",
		  a_clone_takes_its_addresses_of_both_kinds },
		{ "the parent keeps what it has", the_parent_keeps_what_it_has },
		{ "nonsense is refused", nonsense_is_refused },
		CU_TEST_INFO_NULL
	};

	if (!guest_may_own_network()) {
		fprintf(stderr, "no network namespace with IPv6 and veth can be made here\n");
		return 77;
	}
	return run_suite("netcfg", tests);
}
