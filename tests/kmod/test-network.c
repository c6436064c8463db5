/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A clone is itself before its first packet: test-network [NIC-OPTIONS]. The test is the guest's
 * network, so it sees every frame.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "frames.h"
#include "outside.h"
#include "suite.h"
#include "vm.h"

/* One may be lost among the frames of a flood. */
#define PING "until ping -c 1 -w 2 10.0.2.2; do let tries+=1; [ $tries -lt 10 ] || exit 1; done"

static struct vm_config config = { .nic = ",ctrl_rx=off,ctrl_mac_addr=off" };
static struct vm *vm;
static struct outside outside;
static uint64_t op = 100;
static uint8_t me = 1;	/* last number of MAC and addresses */

static struct sfk_letter letter_for(uint32_t id, uint8_t number)
{
	return (struct sfk_letter){ .id = id, .mac = { 2, 0, 0, 0, 0, number }, .prefix = 24,
				    .address = htonl(0x0a000200u + number),
				    .gateway = inet_addr("10.0.2.2"),
				    .parent = htonl(0x0a000200u + me), .prefix6 = 64,
				    .address6 = { 0xfd, 1, [15] = number } };
}

static struct frames_who who(uint8_t number)
{
	return (struct frames_who){ .mac = { 2, 0, 0, 0, 0, number },
				    .ip4 = htonl(0x0a000200u + number),
				    .ip6 = { { 0xfd, 1, [15] = number },
					     { 0xfe, 0x80, [11] = 0xff, 0xfe, 0, 0, number } } };
}

static void set(const char *name, int value)
{
	vm_run(vm, "echo %d >/sys/module/snowflock/parameters/%s", value, name);
}

static void the_guest_boots(void)
{
	outside_open(&outside);
	vm = vm_start(&config);
	CU_ASSERT_PTR_NOT_NULL_FATAL(vm_window(vm));
	vm_run(vm, "ip link set lo up; ip link set eth0 up; ip addr add 10.0.2.1/24 dev eth0; "
		   "ip route add default via 10.0.2.2; ip addr add fd01::1/64 dev eth0 nodad; "
		   "until ip addr show dev eth0 | grep -q 'inet6 fe80.*link *$'; do "
		   "sleep 0.2; done; " PING);
}

/* What is under way in the parent arrives, all of it and in order. */
static void the_parent_loses_nothing(void)
{
	struct sfk_letter letter = { .id = 0 };
	uint32_t number = 0;
	int fd;

	vm_run(vm, "rm -f /tmp/stop");
	vm_spawn(vm, "t stream %u", outside.port);
	fd = outside_accept(&outside);
	for (int i = 0; i < 5; i++) {
		uint32_t before = number;
		int status;

		number = outside_count(fd, number, 100);
		CU_ASSERT_TRUE(number > before);
		vm_hold(vm, ++op, "eth0");
		vm_answer(vm, &letter);
		vm_end(vm, &status);
		CU_ASSERT_EQUAL(status, 0);
	}
	vm_begin(vm, "touch /tmp/stop; while pidof t >/dev/null; do :; done; cat /tmp/out");
	number = outside_count(fd, number, VM_WAIT_MS);
	CU_ASSERT_EQUAL(vm_number(vm_end(vm, &(int){ 0 }), "sent"), number);
	close(fd);
}

/* Programs that send all the time, in the name of whoever this is now. */
static void begin_flood(void)
{
	vm_run(vm, "rm -f /tmp/stop; ping -A 10.0.2.2 >/dev/null 2>&1 &");
	vm_spawn(vm, "t flood 10.0.2.2 eth0");
	vm_spawn(vm, "t flood 10.0.2.99 eth0");
	vm_spawn(vm, "t forge eth0");
	vm_run(vm, "sleep 0.2");
}

static void end_flood(void)
{
	vm_run(vm, "touch /tmp/stop; killall ping; while pidof t >/dev/null; do :; done");
}

/* Makes it another one. Return: what the program that held said; *first: the first frame after. */
static const char *become(uint8_t number, size_t *first)
{
	struct sfk_letter letter = letter_for(number, number);
	int status;
	const char *out;

	vm_hold(vm, ++op, "eth0");
	*first = frames_count(vm->frames);
	vm_answer(vm, &letter);
	out = vm_end(vm, &status);
	CU_ASSERT_EQUAL(status, 0);
	me = number;
	return out;
}

static void a_clone_is_itself_under_load(void)
{
	for (uint8_t number = 21; number <= 23; number++) {
		struct frames_who before = who(me), after = who(number);
		const char *out;
		size_t first;

		begin_flood();
		out = become(number, &first);
		CU_ASSERT_EQUAL(vm_number(out, "clone"), 1);
		CU_ASSERT_EQUAL(vm_number(out, "network_error"), 0);
		fprintf(stderr, "addressed within %.1f ms\n",
			(double)vm_number(out, "addressed_ns") / 1e6);
		vm_run(vm, "sleep 0.5");
		end_flood();
		frames_settle(vm->frames, 50);
		CU_ASSERT_TRUE(frames_from(vm->frames, 0, &before) > 0);
		CU_ASSERT_EQUAL(frames_from(vm->frames, first, &before), 0);
		CU_ASSERT_TRUE(frames_from(vm->frames, first, &after) > 0);
	}
}

static bool has(const char *text, const char *format, uint8_t number)
{
	char expected[64];

	snprintf(expected, sizeof(expected), format, number);
	return strstr(text, expected);
}

static void it_has_its_own_addresses(void)
{
	const char *out = vm_run(vm, "ip addr show dev eth0; ip route; ip neigh; ip -6 route");

	CU_ASSERT_TRUE(has(out, "link/ether 02:00:00:00:00:%02x", me));
	CU_ASSERT_TRUE(has(out, "inet 10.0.2.%u/24 brd 10.0.2.255", me));
	CU_ASSERT_TRUE(has(out, "inet6 fd01::%x/64", me));
	CU_ASSERT_TRUE(has(out, "inet6 fe80::ff:fe00:%x/64", me));
	CU_ASSERT_FALSE(has(out, "inet 10.0.2.%u/", me - 1));
	CU_ASSERT_FALSE(has(out, "inet6 fd01::%x/", me - 1));
	CU_ASSERT_FALSE(has(out, "inet6 fe80::ff:fe00:%x/", me - 1));
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "default via 10.0.2.2 dev eth0"));
	CU_ASSERT_TRUE(has(out, "10.0.2.%u dev eth0 lladdr", me - 1));
	CU_ASSERT_PTR_NULL(strstr(out, "tentative"));
	vm_run(vm, PING);
}

/* The programs would send in the parent's name if they could. */
static void without_the_gate_they_would(void)
{
	struct frames_who before = who(me);
	size_t first;

	set("gate", 0);
	begin_flood();
	become(24, &first);
	vm_run(vm, "sleep 0.5");
	end_flood();
	CU_ASSERT_TRUE(frames_from(vm->frames, first, &before) > 0);
	set("gate", 1);
}

static const char *sockets_after(uint8_t number, const char **held)
{
	static char said[4096];
	int fds[2];
	size_t first;

	vm_run(vm, "rm -f /tmp/go");
	vm_spawn(vm, "t sockets %u", outside.port);
	fds[0] = outside_accept(&outside);
	fds[1] = outside_accept(&outside);
	snprintf(said, sizeof(said), "%s", become(number, &first));
	*held = said;
	vm_run(vm, "touch /tmp/go; while pidof t >/dev/null; do :; done");
	close(fds[0]);
	close(fds[1]);
	return vm_run(vm, "cat /tmp/out");
}

static void inherited_connections_end(void)
{
	static const char *const ended[] = { "outside", "mapped", "starting", "udp" };
	static const char *const alive[] = { "loopback", "unix", "listener", "listener6" };
	const char *held, *out = sockets_after(31, &held);

	CU_ASSERT_EQUAL(vm_number(held, "connections"), 3);
	CU_ASSERT_EQUAL(vm_number(out, "heard"), 1);
	for (size_t i = 0; i < sizeof(ended) / sizeof(ended[0]); i++)
		CU_ASSERT_EQUAL(vm_number(out, ended[i]), 103);	/* ECONNABORTED */
	for (size_t i = 0; i < sizeof(alive) / sizeof(alive[0]); i++)
		CU_ASSERT_EQUAL(vm_number(out, alive[i]), 1);
	set("connections", 0);
	out = sockets_after(32, &held);
	CU_ASSERT_EQUAL(vm_number(held, "connections"), 0);
	CU_ASSERT_EQUAL(vm_number(out, "heard"), 0);
	set("connections", 1);
}

static void addresses_stay_when_that_is_off(void)
{
	uint8_t before = me;
	const char *out;
	size_t first;

	set("readdress", 0);
	become(41, &first);
	out = vm_run(vm, "ip addr show dev eth0");
	CU_ASSERT_TRUE(has(out, "inet 10.0.2.%u/24", before));
	CU_ASSERT_FALSE(has(out, "inet 10.0.2.%u/24", 41));
	set("readdress", 1);
	me = before;
}

static void what_cannot_be_is_told(void)
{
	struct sfk_letter letter = letter_for(42, 42);
	int status;

	letter.mac[0] = 1;	/* of a group */
	vm_hold(vm, ++op, "eth0");
	vm_answer(vm, &letter);
	CU_ASSERT_EQUAL(vm_number(vm_end(vm, &status), "network_error"), 99); /* EADDRNOTAVAIL */
	CU_ASSERT_EQUAL(status, 0);
	letter = letter_for(43, 43);
	letter.prefix = 33;
	vm_hold(vm, ++op, "eth0");
	vm_answer(vm, &letter);
	CU_ASSERT_EQUAL(vm_number(vm_end(vm, &status), "network_error"), 22);	/* EINVAL */
	CU_ASSERT_EQUAL(status, 0);
}

static void nobody_complained(void)
{
	vm_stop(vm);
	outside_close(&outside);
}

int main(int argc, char **argv)
{
	static const CU_TestInfo tests[] = {
		{ "the guest boots with the module", the_guest_boots },
		{ "the parent loses nothing", the_parent_loses_nothing },
		{ "a clone is itself under load", a_clone_is_itself_under_load },
		{ "it has its own addresses", it_has_its_own_addresses },
		{ "without the gate it would not be", without_the_gate_they_would },
		{ "inherited connections end", inherited_connections_end },
		{ "addresses stay when that is off", addresses_stay_when_that_is_off },
		{ "what cannot be is told", what_cannot_be_is_told },
		{ "nobody complained", nobody_complained },
		CU_TEST_INFO_NULL
	};

	if (argc > 1)
		config.nic = argv[1];
	if (argc > 2)
		config.cmdline = argv[2];
	return run_suite("network", tests);
}
