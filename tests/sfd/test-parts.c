/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What sfd reads and decides, without VMs: texts, messages, frames, who takes a clone, the record.
 */
#include <CUnit/Basic.h>
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfd/agent_port.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"
#include "host/sfd/hex.h"
#include "host/sfd/hosts.h"
#include "host/sfd/offer.h"
#include "host/sfd/probe_wire.h"
#include "host/sfd/request.h"
#include "host/sfd/reserve.h"
#include "host/sfd/start.h"
#include "host/sfd/window.h"

/* ---- the hosts file ---- */

static void test_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = { { "0", 0 },	   { "4096", 4096 },
		     { "1K", 1024 },	   { "512M", 512ull << 20 },
		     { "4g", 4ull << 30 }, { "2GB", 2ull << 30 },
		     { "3T", 3ull << 40 } };
	static const char *const bad[] = { "",
					   "G",
					   "-1",
					   " 1",
					   "+1",
					   "4 ",
					   "4X",
					   "4GBB",
					   "4Gi",
					   "1.5G",
					   "0x10",
					   "99999999999999999999",
					   "18446744073709551615K" };
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		CU_ASSERT_EQUAL(size_parse(good[i].text, &bytes), 0);
		CU_ASSERT_EQUAL(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CU_ASSERT_EQUAL(size_parse(bad[i], &bytes), -EINVAL);
}

/* Reads a hosts file with this text as host h1. */
static int read_hosts(struct daemon *d, const char *text, char why[WHY_BYTES])
{
	static char path[64];
	int fd, rc;

	snprintf(path, sizeof(path), "/tmp/sf-hosts.XXXXXX");
	fd = mkstemp(path);
	rc = io_write_full(fd, text, strlen(text));
	close(fd);
	memset(d, 0, sizeof(*d));
	d->config.hosts_file = path;
	d->config.host = "h1";
	*why = 0;
	if (!rc)
		rc = hosts_read(d, why);
	unlink(path);
	return rc;
}

static void test_hosts(void)
{
	char why[WHY_BYTES];
	struct daemon d;

	CU_ASSERT_EQUAL(
		read_hosts(&d, "# ours\n\n h2\t10.0.0.2:99 mem=2G # big\r\nh1 10.0.0.1\n", why), 0);
	CU_ASSERT_EQUAL_FATAL(d.host_count, 2);
	CU_ASSERT_STRING_EQUAL(d.hosts[0].name, "h2");
	CU_ASSERT_EQUAL(d.hosts[0].port, 99);
	CU_ASSERT_EQUAL(d.hosts[0].mem_bytes, 2ull << 30);
	CU_ASSERT_EQUAL(d.hosts[0].addr.s_addr, htonl(0x0a000002));
	CU_ASSERT_PTR_EQUAL(d.self, &d.hosts[1]);
	CU_ASSERT_EQUAL(d.self->index, 1);
	CU_ASSERT_PTR_NULL(hosts_find(&d, "h3"));
	hosts_free(&d);
}

static void test_hosts_wrong(void)
{
	static const struct {
		const char *text, *told;
	} bad[] = {
		{ "h1\n", "line 1: want" },
		{ "\nh1 10.0.0\n", "line 2: not an IPv4" },
		{ "h1 10.0.0.1:0\n", "port" },
		{ "h1 10.0.0.1:70000\n", "port" },
		{ "h1 10.0.0.1:19x\n", "port" },
		{ "h1 10.0.0.1: 9\n", "port" },
		{ "h1 10.0.0.1 mem=\n", "only mem=SIZE" },
		{ "h1 10.0.0.1 cpu=3\n", "only mem=SIZE" },
		{ "h1/x 10.0.0.1\n", "a name has" },
		{ "../x 10.0.0.1\n", "a name has" },
		{ "h1 10.0.0.1\nh1 10.0.0.2\n", "line 2: host \"h1\"" },
		{ "h1 10.0.0.1\nh2 10.0.0.1\n", "twice" },
		{ "h2 10.0.0.2\n", "\"h1\" is not in" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char why[WHY_BYTES];
		struct daemon d;

		CU_ASSERT(read_hosts(&d, bad[i].text, why) < 0);
		if (!strstr(why, bad[i].told))
			printf("\"%s\": %s\n", bad[i].text, why);
		CU_ASSERT_PTR_NOT_NULL(strstr(why, bad[i].told));
		hosts_free(&d);
	}
}

/* ---- texts ---- */

static void test_hex(void)
{
	uint8_t bytes[4] = { 0, 0x7f, 0x80, 0xff }, back[4];
	char text[9];

	hex_print(bytes, sizeof(bytes), text);
	CU_ASSERT_STRING_EQUAL(text, "007f80ff");
	CU_ASSERT_EQUAL(hex_parse("007F80fF", back, sizeof(back)), 0);
	CU_ASSERT_EQUAL(memcmp(bytes, back, sizeof(back)), 0);
	CU_ASSERT_EQUAL(hex_parse("007f80f", back, sizeof(back)), -EINVAL);
	CU_ASSERT_EQUAL(hex_parse("007f80ff0", back, sizeof(back)), -EINVAL);
	CU_ASSERT_EQUAL(hex_parse("007f80fg", back, sizeof(back)), -EINVAL);
	CU_ASSERT_EQUAL(hex_parse("", back, sizeof(back)), -EINVAL);
}

static void test_fields(void)
{
	json_t *msg = json_pack("{si si sI ss sb}", "a", 7, "n", -1, "big", (json_int_t)1 << 32,
				"s", "x", "t", 1);
	unsigned number = 5;

	CU_ASSERT(field_unsigned(msg, "a", 7, 7, &number) && number == 7);
	CU_ASSERT_FALSE(field_unsigned(msg, "a", 8, 9, &number));
	CU_ASSERT_FALSE(field_unsigned(msg, "n", 0, UINT32_MAX, &number));
	CU_ASSERT_FALSE(field_unsigned(msg, "big", 0, UINT32_MAX, &number));
	CU_ASSERT_FALSE(field_unsigned(msg, "s", 0, 9, &number));
	CU_ASSERT_FALSE(field_unsigned(msg, "t", 0, 9, &number));
	CU_ASSERT_FALSE(field_unsigned(NULL, "a", 0, 9, &number));
	CU_ASSERT_EQUAL(number, 7);
	CU_ASSERT_EQUAL(field_or(msg, "big", 0), 1ull << 32);
	CU_ASSERT_EQUAL(field_or(msg, "n", 3), 3);
	CU_ASSERT_STRING_EQUAL(field_text(msg, "s", ""), "x");
	CU_ASSERT_STRING_EQUAL(field_text(msg, "a", "none"), "none");
	json_decref(msg);
}

static void test_requests(void)
{
	char nine[] = "a b c d e f g h i", long_line[SF_XS_REQUEST_MAX + 2];
	struct request r;

	CU_ASSERT_EQUAL(request_split(&r, "ticket 3 min=2", 14), 0);
	CU_ASSERT_EQUAL(r.count, 3);
	CU_ASSERT_STRING_EQUAL(r.words[2], "min=2");
	CU_ASSERT_PTR_NULL(r.words[3]);
	CU_ASSERT_EQUAL(request_split(&r, nine, strlen(nine) - 2), 0);
	CU_ASSERT_EQUAL(request_split(&r, nine, strlen(nine)), -EINVAL);
	CU_ASSERT_EQUAL(request_split(&r, "   ", 3), -EINVAL);
	CU_ASSERT_EQUAL(request_split(&r, "a\nb", 3), -EINVAL);
	CU_ASSERT_EQUAL(request_split(&r, "a\0b", 3), -EINVAL);
	CU_ASSERT_EQUAL(request_split(&r, "a\xc3\xa4", 3), -EINVAL);
	memset(long_line, 'x', sizeof(long_line));
	CU_ASSERT_EQUAL(request_split(&r, long_line, SF_XS_REQUEST_MAX), 0);
	CU_ASSERT_EQUAL(request_split(&r, long_line, SF_XS_REQUEST_MAX + 1), -EINVAL);
	CU_ASSERT(request_key_valid("12-0-deadBEEF"));
	CU_ASSERT_FALSE(request_key_valid(""));
	CU_ASSERT_FALSE(request_key_valid("a/b"));
	CU_ASSERT_FALSE(request_key_valid("a.b"));
	CU_ASSERT(request_key_valid("123456789012345678901234567890123456789012345678"));
	CU_ASSERT_FALSE(request_key_valid("1234567890123456789012345678901234567890123456789"));
}

static void test_request_numbers(void)
{
	static const char *const bad[] = { NULL,
					   "",
					   "-1",
					   "+1",
					   "1x",
					   " 1",
					   "1 ",
					   "0",
					   "11",
					   "4294967297",
					   "99999999999999999999999999" };
	unsigned number = 0;

	CU_ASSERT_EQUAL(request_number("007", 1, 10, &number), 0);
	CU_ASSERT_EQUAL(number, 7);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		CU_ASSERT_EQUAL(request_number(bad[i], 1, 10, &number), -EINVAL);
	CU_ASSERT_EQUAL(request_number("4294967295", 0, UINT32_MAX, &number), 0);
	CU_ASSERT_EQUAL(number, UINT32_MAX);
}

static void test_ticket_wishes(void)
{
	static const char *const good[] = { "8", "per-host=2", "min=8", "vcpus=1", NULL };
	static const char *const bad[][4] = { { NULL },		 { "0" },
					      { "1025" },	 { "4294967297" },
					      { "3", "min=4" },	 { "3", "min=" },
					      { "3", "min=-1" }, { "3", "x=1" },
					      { "3", "min" },	 { "3", "per-host=x" } };
	struct ticket_wish wish;
	const char *wrong = "";

	CU_ASSERT_EQUAL(request_ticket(good, &wish, &wrong), 0);
	CU_ASSERT(wish.n == 8 && wish.per_host == 2 && wish.min == 8 && wish.vcpus == 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CU_ASSERT_EQUAL(request_ticket(bad[i], &wish, &wrong), -EINVAL);
		CU_ASSERT(strlen(wrong) > 10);
	}
}

/* ---- messages of homes ---- */

static json_t *good_start(void)
{
	json_t *msg =
		json_pack("{si si si si si si si si ss ss ss s[s] s[i] s[{si si si} {si si si}]}",
			 "number", 1, "ticket", 2, "file", 3, "checkpoint", 0, "pages", 4000,
			 "quiesce", 9, "descriptor_bytes", 4, "dead_bytes", 0, "snapshot", "0102030405060708", "key",
			 "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			 "request", "7-0-x", "cancel", "8-0-y", "streams", 1, "clones", "id", 1,
			 "slot", 5, "serial", 11, "id", 2, "slot", 6, "serial", 12);
	json_object_update_new(msg, json_pack("{ss si s[{ss si} {ss si}]}", "mode", "tree", "push", 7,
					      "members", "address", "10.0.0.2", "pages", 4001,
					      "address", "10.0.0.3", "pages", 4001));
	return msg;
}

static void test_start(void)
{
	const uint8_t bytes[] = "desctree";
	json_t *msg = good_start();
	struct start s;

	CU_ASSERT_EQUAL_FATAL(start_parse(&s, msg, bytes, 8), 0);
	CU_ASSERT(s.ticket == 2 && s.file == 3 && s.pages == 4000 && s.quiesce == 9 &&
		  s.count == 2);
	CU_ASSERT(s.descriptor == bytes && s.descriptor_bytes == 4);
	CU_ASSERT(s.xs_state == bytes + 4 && s.xs_bytes == 4);
	CU_ASSERT(s.clones[1].id == 2 && s.clones[1].slot == 6 && s.clones[1].serial == 12);
	CU_ASSERT(s.key[31] == 0x1f);
	CU_ASSERT(s.route.mode == MC_TREE && s.route.nodes == 3 && s.route.push_pages == 7);
	CU_ASSERT_EQUAL(route_find(&s.route, (struct in_addr){ htonl(0x0a000003) }, 4001), 2);
	CU_ASSERT_EQUAL(route_find(&s.route, (struct in_addr){ htonl(0x0a000003) }, 4002), 0);
	start_fini(&s);
	CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 3), -EINVAL);
	json_decref(msg);
}

/* Each field missing, of another type, too small, too large. */
static void test_start_wrong(void)
{
	static const char *const fields[] = { "number",	    "ticket", "file",
					      "checkpoint", "pages",  "quiesce",
					      "snapshot",   "key",    "descriptor_bytes",
					      "request",    "cancel", "streams",
					      "clones",	    "dead_bytes", "mode",
					      "members",    "push" };
	const uint8_t bytes[8] = "";
	struct start s;

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		json_t *values[] = { NULL,
				     json_true(),
				     json_integer(-1),
				     json_integer(INT64_MAX),
				     json_string("a b"),
				     json_pack("[n]") };

		for (size_t k = 0; k < ARRAY_SIZE(values); k++) {
			json_t *msg = good_start();

			if (values[k])
				json_object_set_new(msg, fields[i], values[k]);
			else
				json_object_del(msg, fields[i]);
			/* a list of commands may hold anything, and the number of the freeze be any
			 */
			if (!(k == 5 && !strcmp(fields[i], "streams")) &&
			    !(k == 3 && !strcmp(fields[i], "quiesce")))
				CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 8), -EINVAL);
			json_decref(msg);
		}
	}
}

/* Of a guest that was held: its dead pages between the two, and what its window said. */
static void test_start_held(void)
{
	struct sfk_window head = { .magic = SFK_MAGIC,
				   .version = SFK_VERSION,
				   .gfn = 4096,
				   .pages = 9,
				   .held_op = 9,
				   .state = SFK_HELD };
	const uint8_t bytes[] = "descdeadpagetree";
	char text[2 * WINDOW_HEAD_BYTES + 1];
	json_t *msg = good_start();
	struct start s;

	json_object_set_new(msg, "dead_bytes", json_integer(8));
	CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 16), -EINVAL);
	hex_print((uint8_t *)&head, WINDOW_HEAD_BYTES, text);
	json_object_set_new(msg, "window", json_string(text));
	CU_ASSERT_EQUAL_FATAL(start_parse(&s, msg, bytes, 16), 0);
	CU_ASSERT(s.dead == bytes + 4 && s.dead_bytes == 8);
	CU_ASSERT(s.xs_state == bytes + 12 && s.xs_bytes == 4);
	CU_ASSERT_EQUAL(memcmp(&s.head, &head, sizeof(head)), 0);
	start_fini(&s);
	CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 11), -EINVAL);
	json_object_set_new(msg, "quiesce", json_integer(8)); /* held for another operation */
	CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 16), -EINVAL);
	json_decref(msg);
}

static void test_start_wrong_clone(void)
{
	static const char *const wrong[] = { "{\"id\":0,\"slot\":1,\"serial\":1}",
					     "{\"id\":2,\"slot\":1,\"serial\":1}",
					     "{\"id\":1,\"slot\":0,\"serial\":1}",
					     "{\"id\":1,\"slot\":4001,\"serial\":1}",
					     "{\"id\":1,\"slot\":1,\"serial\":0}",
					     "{\"id\":4294967297,\"slot\":1,\"serial\":1}",
					     "{}" };
	const uint8_t bytes[8] = "";
	struct start s;

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		json_t *msg = good_start();

		json_object_set_new(msg, "clones", json_pack("[o]", json_loads(wrong[i], 0, NULL)));
		CU_ASSERT_EQUAL(start_parse(&s, msg, bytes, 8), -EINVAL);
		json_decref(msg);
	}
}

static void test_reservation(void)
{
	static const char good[] =
		"{\"family\":{\"number\":1,\"ram_bytes\":268435456,\"cpus\":2,"
		"\"vni\":77,\"base\":\"10.64.0.1\",\"group\":\"239.192.3.4\","
		"\"group_port\":50000},\"ticket\":3,\"slots\":[1,4000],"
		"\"window_gfn\":4096,\"window_pages\":3}";
	static const char *const wrong[][2] = { { "window_gfn", "x" },
						{ "window_pages", "x" },
						{ "4096,", "-1," },
						{ "4096,", "65534," },
						{ "4096,", "9223372036854775807," },
						{ "_pages\":3", "_pages\":-1" },
						{ "_pages\":3", "_pages\":1025" },
						{ "\"number\":1", "\"number\":-1" },
						{ "268435456", "268435457" },
						{ "268435456", "4398046511105048576" },
						{ "\"cpus\":2", "\"cpus\":65" },
						{ "\"vni\":77", "\"vni\":16777216" },
						{ "10.64.0.1", "10.64.0" },
						{ "239.192.3.4", "239.191.3.4" },
						{ "239.192.3.4", "239.196.0.0" },
						{ "239.192.3.4", "10.64.0.1" },
						{ "239.192.3.4", "all" },
						{ "50000", "1972" },
						{ "50000", "61000" },
						{ "50000", "\"x\"" },
						{ "\"cpus\":2", "\"cpus\":2,\"ipv6\":1" },
						{ "\"ticket\":3", "\"ticket\":0" },
						{ "[1,4000]", "[]" },
						{ "[1,4000]", "[1,4001]" },
						{ "[1,4000]", "[0]" },
						{ "[1,4000]", "{}" } };
	json_t *msg = json_loads(good, 0, NULL);
	struct reservation v;

	CU_ASSERT_EQUAL_FATAL(reserve_parse(&v, msg), 0);
	CU_ASSERT(v.window.gfn == 4096 && v.window.pages == 3);
	CU_ASSERT(v.vni == 77 && v.count == 2 && v.slots[1] == 4000 && v.ram_bytes == 256ull << 20);
	CU_ASSERT(v.group.sin_addr.s_addr == htonl(0xefc00304) && v.group.sin_port == htons(50000));
	CU_ASSERT_FALSE(v.ipv6);
	reserve_fini(&v);
	json_object_set_new(json_object_get(msg, "family"), "ipv6", json_true());
	CU_ASSERT_EQUAL_FATAL(reserve_parse(&v, msg), 0);
	CU_ASSERT_TRUE(v.ipv6);
	reserve_fini(&v);
	json_decref(msg);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		const char *at = strstr(good, wrong[i][0]);
		char text[512];

		snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, wrong[i][1],
			 at + strlen(wrong[i][0]));
		msg = json_loads(text, 0, NULL);
		CU_ASSERT_PTR_NOT_NULL_FATAL(msg);
		CU_ASSERT_EQUAL(reserve_parse(&v, msg), -EINVAL);
		json_decref(msg);
	}
}

/* ---- how pages travel ---- */

static void test_distribution(void)
{
	static const struct {
		enum distribution wish;
		unsigned members, hear;
		enum mc_mode mode;
	} cases[] = {
		{ DISTRIBUTE_AUTO, 0, 0, MC_UNICAST },	{ DISTRIBUTE_AUTO, 1, 1, MC_UNICAST },
		{ DISTRIBUTE_AUTO, 2, 2, MC_MULTICAST }, { DISTRIBUTE_AUTO, 9, 8, MC_TREE },
		{ DISTRIBUTE_AUTO, 2, 0, MC_TREE },	{ DISTRIBUTE_TREE, 2, 2, MC_TREE },
		{ DISTRIBUTE_UNICAST, 2, 2, MC_UNICAST }, { DISTRIBUTE_MULTICAST, 1, 0, MC_MULTICAST },
	};
	enum distribution wish;
	enum mc_mode mode;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		CU_ASSERT_EQUAL(distribution_choose(cases[i].wish, cases[i].members, cases[i].hear),
				cases[i].mode);
	for (int i = DISTRIBUTE_AUTO; i <= DISTRIBUTE_UNICAST; i++) {
		CU_ASSERT_EQUAL(distribution_parse(distribution_name((enum distribution)i), &wish), 0);
		CU_ASSERT_EQUAL((int)wish, i);
	}
	for (int i = 0; i < MC_MODES; i++) {
		CU_ASSERT_EQUAL(mc_mode_parse(mc_mode_name((enum mc_mode)i), &mode), 0);
		CU_ASSERT_EQUAL((int)mode, i);
	}
	CU_ASSERT_EQUAL(distribution_parse("", &wish), -EINVAL);
	CU_ASSERT_EQUAL(mc_mode_parse("auto", &mode), -EINVAL);
}

/* A host of three that hears us, or not; ourselves; one that is down. */
static void test_route(void)
{
	struct host hosts[] = {
		{ .addr.s_addr = 1, .up = true, .hears = true },
		{ .addr.s_addr = 2, .up = true },
		{ .addr.s_addr = 3, .up = true, .hears = true },
		{ .addr.s_addr = 4, .up = true },
		{ .addr.s_addr = 5 },
	};
	struct daemon d = { .hosts = hosts, .host_count = ARRAY_SIZE(hosts), .self = &hosts[1] };
	struct child first[] = { { .host = &hosts[0], .pages_port = 10 },
				 { .host = &hosts[1], .pages_port = 11 },
				 { .host = &hosts[0], .pages_port = 10 },
				 { .host = &hosts[2], .pages_port = 12 } };
	struct child later[] = { { .host = &hosts[3], .pages_port = 13 },
				 { .host = &hosts[2], .pages_port = 12 } };
	struct ticket one = { .children = first, .count = ARRAY_SIZE(first) };
	struct ticket two = { .children = later, .count = ARRAY_SIZE(later) };
	struct route r;

	CU_ASSERT_EQUAL(distribution_of_all(&d), MC_TREE);
	CU_ASSERT_EQUAL_FATAL(route_begin(&r, &d, 9, &one, ROUTE_MEMORY), 0);
	CU_ASSERT(r.mode == MC_MULTICAST && r.nodes == 3);
	CU_ASSERT_EQUAL(memtap_at_address(&r.at[0]).s_addr, 2);
	CU_ASSERT_EQUAL(route_find(&r, hosts[2].addr, 12), 2);
	CU_ASSERT_EQUAL(route_add_ticket(&r, &d, &two, ROUTE_MEMORY), 0);
	CU_ASSERT_EQUAL(route_find(&r, hosts[2].addr, 12), 2);
	CU_ASSERT_EQUAL(route_find(&r, hosts[3].addr, 13), 3);
	route_fini(&r);
	CU_ASSERT_EQUAL_FATAL(route_begin(&r, &d, 9, NULL, ROUTE_MEMORY), 0); /* a checkpoint: for anybody */
	CU_ASSERT(r.mode == MC_TREE && r.nodes == 1);
	route_fini(&r);
}

static void test_probes(void)
{
	const uint8_t key[LINK_KEY_BYTES] = { 1 }, other_key[LINK_KEY_BYTES] = { 2 };
	struct probe_cluster a, b, c;
	uint8_t bytes[PEER_PROBE_BYTES + 1] = { 0 };
	uint64_t number;
	uint32_t host;

	probe_cluster_make(&a, "default", key);
	probe_cluster_make(&b, "default", other_key);
	probe_cluster_make(&c, "other", key);
	CU_ASSERT(probe_group_valid(&a.group) && probe_group_valid(&b.group));
	CU_ASSERT(memcmp(&a.group, &b.group, sizeof(a.group)) &&
		  memcmp(&a.group, &c.group, sizeof(a.group)));
	probe_write(&a, 7, 0x0102030405060708, bytes);
	CU_ASSERT_EQUAL_FATAL(probe_read(&a, bytes, PEER_PROBE_BYTES, &host, &number), 0);
	CU_ASSERT(host == 7 && number == 0x0102030405060708);
	CU_ASSERT_EQUAL(probe_read(&b, bytes, PEER_PROBE_BYTES, &host, &number), -EINVAL);
	CU_ASSERT_EQUAL(probe_read(&c, bytes, PEER_PROBE_BYTES, &host, &number), -EINVAL);
	CU_ASSERT_EQUAL(probe_read(&a, bytes, PEER_PROBE_BYTES - 1, &host, &number), -EINVAL);
	CU_ASSERT_EQUAL(probe_read(&a, bytes, PEER_PROBE_BYTES + 1, &host, &number), -EINVAL);
	for (size_t i = 0; i < PEER_PROBE_BYTES; i++) {
		bytes[i] ^= 0x10;
		CU_ASSERT_EQUAL(probe_read(&a, bytes, PEER_PROBE_BYTES, &host, &number), -EINVAL);
		bytes[i] ^= 0x10;
	}
	for (unsigned i = 0; i < 1000; i++) {
		struct sockaddr_in group = probe_random_group();

		CU_ASSERT(probe_group_valid(&group));
	}
}

/* ---- who takes a clone ---- */

static void give(struct offer *offers, unsigned count, unsigned clones, unsigned per_host)
{
	while (clones--) {
		struct offer *o = offer_best(offers, count, per_host);

		if (!o)
			return;
		o->given++;
	}
}

static void test_offers(void)
{
	struct offer even[] = { { .room = 9 }, { .room = 9 }, { .room = 9 } };
	struct offer tight[] = { { .room = 1 }, { .room = 0 }, { .room = 5 } };
	struct offer big[] = { { .room = 3 }, { .room = 8 } };

	give(even, 3, 8, 0);
	CU_ASSERT(even[0].given == 3 && even[1].given == 3 && even[2].given == 2);
	give(even, 3, 100, 4);
	CU_ASSERT(even[0].given == 4 && even[1].given == 4 && even[2].given == 4);
	give(tight, 3, 100, 0);
	CU_ASSERT(tight[0].given == 1 && tight[1].given == 0 && tight[2].given == 5);
	give(big, 2, 1, 0);
	CU_ASSERT(big[0].given == 0 && big[1].given == 1);
	CU_ASSERT_PTR_NULL(offer_best(NULL, 0, 0));
	CU_ASSERT_EQUAL(offer_room(100, 30), 3);
	CU_ASSERT_EQUAL(offer_room(UINT64_MAX, 1), SF_MAX_CLONES);
	CU_ASSERT_EQUAL(offer_room(1, 0), SF_MAX_CLONES);
}

/* ---- the record ---- */

static void test_record(void)
{
	struct host h1 = { .name = "h1" }, h2 = { .name = "h2" };
	struct child children[] = {
		{ .host = &h1,
		  .state = SF_CLONE_EXITED,
		  .ended = true,
		  .status = 3,
		  .running_ms = 10,
		  .answered_ms = 20,
		  .faults = 5 },
		{ .host = &h2,
		  .state = SF_CLONE_LOST,
		  .ended = true,
		  .running_ms = 11,
		  .answered_ms = -1 },
		{ .host = &h1, .state = SF_CLONE_RUNNING, .running_ms = 12, .answered_ms = -1 },
	};
	struct ticket t = { .asked = 4, .count = 3, .children = children, .join_ms = -1, .op = 1 };
	struct instant held = { .head = { .magic = SFK_MAGIC, .hold_ns = 2500000 },
				.dead_pages = 99 };
	json_t *record = ticket_record(&t), *clones = json_object_get(record, "clones");

	CU_ASSERT_EQUAL(field_or(record, "n", 0), 4);
	CU_ASSERT_EQUAL(field_or(record, "granted", 0), 3);
	CU_ASSERT_EQUAL(json_array_size(json_object_get(record, "hosts")), 2);
	CU_ASSERT(json_is_null(json_object_get(record, "join_ms")));
	CU_ASSERT(json_is_null(json_object_get(record, "hold_ms")));
	CU_ASSERT_EQUAL(field_or(json_array_get(clones, 0), "status", 9), 3);
	CU_ASSERT_STRING_EQUAL(field_text(json_array_get(clones, 1), "status", ""), "lost");
	CU_ASSERT(json_is_null(json_object_get(json_array_get(clones, 1), "answered_ms")));
	CU_ASSERT(json_is_null(json_object_get(json_array_get(clones, 2), "status")));
	json_decref(record);
	t.instant = &held;
	record = ticket_record(&t);
	CU_ASSERT_EQUAL(json_real_value(json_object_get(record, "hold_ms")), 2.5);
	CU_ASSERT_EQUAL(field_or(record, "dead_pages", 0), 99);
	json_decref(record);
	t.op = 0;
	CU_ASSERT_PTR_NULL(ticket_record(&t));
}

/* ---- the agent's port ---- */

struct port_rig {
	struct event_base *base;
	struct agent_port *port;
	int guest;
	unsigned frames, breaks;
	struct agent_frame last;
	uint8_t payload[AGENT_MAX_FRAME];
	char why[128];
};

static void on_frame(void *arg, const struct agent_frame *frame, const void *payload)
{
	struct port_rig *rig = arg;

	rig->frames++;
	rig->last = *frame;
	if (frame->length)
		memcpy(rig->payload, payload, frame->length);
}

static void on_broken(void *arg, const char *why)
{
	struct port_rig *rig = arg;

	rig->breaks++;
	snprintf(rig->why, sizeof(rig->why), "%s", why ? why : "ended");
}

static void rig_start(struct port_rig *rig)
{
	static const struct agent_port_events events = { on_frame, on_broken };
	int pair[2];

	memset(rig, 0, sizeof(*rig));
	rig->base = event_base_new();
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	rig->guest = pair[0];
	io_set_nonblock(rig->guest, true);
	rig->port = agent_port_new(rig->base, pair[1], &events, rig);
	CU_ASSERT_PTR_NOT_NULL_FATAL(rig->port);
}

static void rig_stop(struct port_rig *rig)
{
	agent_port_free(rig->port);
	event_base_loop(rig->base, EVLOOP_NONBLOCK);
	event_base_free(rig->base);
	close(rig->guest);
}

/* The guest sends these bytes, in pieces. */
static void rig_send(struct port_rig *rig, const void *bytes, size_t len, size_t piece)
{
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;

		if (send(rig->guest, (const char *)bytes + at, n, MSG_NOSIGNAL) < 0)
			break;
		event_base_loop(rig->base, EVLOOP_NONBLOCK);
	}
	for (int i = 0; i < 8; i++)
		event_base_loop(rig->base, EVLOOP_NONBLOCK);
}

static void test_port_frames(void)
{
	struct {
		struct agent_frame head;
		struct agent_status status;
	} exited = { { sizeof(struct agent_status), AGENT_EXITED, 0, 7 }, { 256, 0 } };
	struct {
		struct agent_frame head;
		uint8_t bytes[AGENT_MAX_DATA];
	} data = { { AGENT_MAX_DATA, AGENT_DATA, AGENT_STDOUT, 7 }, { 1 } };
	struct agent_frame nothing = { 0, AGENT_DATA, AGENT_STDERR, 7 };
	struct port_rig rig;

	for (size_t piece = 1; piece < 30; piece += 7) {
		rig_start(&rig);
		rig_send(&rig, &exited, sizeof(exited), piece);
		rig_send(&rig, &nothing, sizeof(nothing), piece);
		CU_ASSERT_EQUAL(rig.frames, 2);
		CU_ASSERT(rig.last.type == AGENT_DATA && !rig.last.length);
		rig_send(&rig, &data, sizeof(data), 4096);
		CU_ASSERT_EQUAL(rig.frames, 3);
		CU_ASSERT_EQUAL(rig.payload[0], 1);
		CU_ASSERT_EQUAL(rig.breaks, 0);
		rig_stop(&rig);
	}
}

/* An agent of another version is understood as far as its version. */
static void test_port_old_hello(void)
{
	static const struct agent_frame old = { 8, AGENT_HELLO, 0, 0 },
					now = { sizeof(struct agent_hello), AGENT_HELLO, 0, 0 };
	static const struct agent_hello hello = { AGENT_VERSION, 0, { 4096, 9 } };
	struct agent_hello seen;
	struct port_rig rig;

	rig_start(&rig);
	rig_send(&rig, &now, sizeof(now), 7);
	rig_send(&rig, &hello, sizeof(hello), 7);
	memcpy(&seen, rig.payload, sizeof(seen));
	CU_ASSERT(rig.frames == 1 && seen.window.gfn == 4096 && seen.window.pages == 9);
	rig_send(&rig, &old, sizeof(old), 7);
	rig_send(&rig, &(struct agent_hello){ .version = 2 }, old.length, 7);
	CU_ASSERT(rig.frames == 2 && rig.breaks == 0 && rig.last.length == 8);
	memcpy(&seen, rig.payload, sizeof(seen.version));
	CU_ASSERT_EQUAL(seen.version, 2);
	rig_stop(&rig);
}

static void test_port_wrong_frames(void)
{
	static const struct {
		struct agent_frame frame;
		const char *told;
	} wrong[] = {
		{ { 0, 0, 0, 0 }, "type" },
		{ { 8, AGENT_TYPES, 0, 0 }, "type" },
		{ { 0, 0xffff, 0, 0 }, "type" },
		{ { 16, AGENT_QUIESCE, 0, 0 }, "type" },
		{ { 16, AGENT_EXEC, 0, 0 }, "type" },
		{ { AGENT_MAX_DATA + 1, AGENT_DATA, 1, 1 }, "over the limit" },
		{ { 0xffffffff, AGENT_DATA, 1, 1 }, "over the limit" },
		{ { AGENT_MAX_FRAME + 1, AGENT_HELLO, 0, 0 }, "over the limit" },
		{ { 7, AGENT_HELLO, 0, 0 }, "cut short" },
		{ { 0, AGENT_CREDIT, 0, 0 }, "cut short" },
		{ { 16, AGENT_QUIESCED, 0, 0 }, "cut short" },
		{ { 8, AGENT_MODULE, 0, 0 }, "cut short" },
		{ { 1, AGENT_DATA, 3, 1 }, "channel" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct port_rig rig;

		rig_start(&rig);
		rig_send(&rig, &wrong[i].frame, sizeof(wrong[i].frame), 5);
		rig_send(&rig, &wrong[i].frame, sizeof(wrong[i].frame), 5);
		CU_ASSERT_EQUAL(rig.frames, 0);
		CU_ASSERT_EQUAL(rig.breaks, 1);
		CU_ASSERT_PTR_NOT_NULL(strstr(rig.why, wrong[i].told));
		rig_stop(&rig);
	}
}

static ssize_t rig_receive(struct port_rig *rig, void *buf, size_t len)
{
	event_base_loop(rig->base, EVLOOP_NONBLOCK);
	return recv(rig->guest, buf, len, MSG_DONTWAIT);
}

static void test_port_held(void)
{
	struct agent_quiesce q = { .op = 5 };
	struct agent_frame frames[8];
	struct port_rig rig;

	rig_start(&rig);
	agent_port_hold(rig.port, true);
	agent_port_send(rig.port, AGENT_DATA, AGENT_STDIN, 1, "ab", 2, "c", 1);
	CU_ASSERT(rig_receive(&rig, frames, sizeof(frames)) < 0);
	agent_port_send_now(rig.port, AGENT_QUIESCE, &q, sizeof(q));
	CU_ASSERT_EQUAL(rig_receive(&rig, frames, sizeof(frames)), sizeof(frames[0]) + sizeof(q));
	CU_ASSERT_EQUAL(frames[0].type, AGENT_QUIESCE);
	agent_port_hold(rig.port, false);
	CU_ASSERT_EQUAL(rig_receive(&rig, frames, sizeof(frames)), sizeof(frames[0]) + 3);
	CU_ASSERT(frames[0].type == AGENT_DATA && frames[0].length == 3 && frames[0].stream == 1);
	CU_ASSERT_EQUAL(memcmp(&frames[1], "abc", 3), 0);
	rig_stop(&rig);
}

static void test_port_ends(void)
{
	struct port_rig rig;

	rig_start(&rig);
	shutdown(rig.guest, SHUT_RDWR);
	rig_send(&rig, "", 0, 1);
	CU_ASSERT_EQUAL(rig.breaks, 1);
	CU_ASSERT_STRING_EQUAL(rig.why, "ended");
	agent_port_send(rig.port, AGENT_DATA, AGENT_STDIN, 1, "ab", 2, NULL, 0);
	rig_stop(&rig);
	agent_port_free(NULL);
	agent_port_send(NULL, AGENT_DATA, AGENT_STDIN, 1, "ab", 2, NULL, 0);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "sizes", test_sizes },
	{ "a hosts file", test_hosts },
	{ "each mistake in a hosts file is told", test_hosts_wrong },
	{ "hexadecimal", test_hex },
	{ "numbers in messages are checked", test_fields },
	{ "requests of libsf", test_requests },
	{ "numbers in requests are checked", test_request_numbers },
	{ "wishes for a ticket", test_ticket_wishes },
	{ "a start message", test_start },
	{ "a start message with a wrong field", test_start_wrong },
	{ "a start message of a guest that was held", test_start_held },
	{ "a start message with a wrong clone", test_start_wrong_clone },
	{ "a reservation", test_reservation },
	{ "a mode for so many members", test_distribution },
	{ "members keep their places", test_route },
	{ "probes of another cluster are none", test_probes },
	{ "clones are spread evenly", test_offers },
	{ "the record of an operation", test_record },
	{ "agent: frames in pieces", test_port_frames },
	{ "agent: a hello of another version", test_port_old_hello },
	{ "agent: wrong frames break the port", test_port_wrong_frames },
	{ "agent: frames wait while held", test_port_held },
	{ "agent: the end of the port", test_port_ends },
};

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	suite = CU_add_suite("sfd", NULL, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
		CU_add_test(suite, tests[i].name, tests[i].run);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? 1 : 0;
}
