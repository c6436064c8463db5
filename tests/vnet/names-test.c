/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names, MACs and IPv6 addresses: unique per VNI and ID, short enough, and recognised again. */
#include <CUnit/Basic.h>
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/vnet/names.h"

static void macs_differ_and_are_local(void)
{
	uint8_t a[VNET_MAC_BYTES], b[VNET_MAC_BYTES];

	vnet_mac(0xabcdef, 0x1234, a);
	CU_ASSERT_EQUAL(memcmp(a, ((uint8_t[]){ 0x46, 0xab, 0xcd, 0xef, 0x12, 0x34 }), 6), 0);
	CU_ASSERT_EQUAL(a[0] & 3, 2);
	vnet_mac(0xabcdef, 0x1235, b);
	CU_ASSERT_NOT_EQUAL(memcmp(a, b, 6), 0);
	vnet_mac(0xabcdee, 0x1234, b);
	CU_ASSERT_NOT_EQUAL(memcmp(a, b, 6), 0);
}

static void ipv6_addresses_have_vni_and_id(void)
{
	static const struct {
		uint32_t vni;
		unsigned id;
		const char *address, *link_local;
	} all[] = {
		{ 0x1, 0, "fd53:f1ac:0:100::1", "fe80::4400:ff:fe01:0" },
		{ 0xabcdef, 0x1234, "fd53:f1ac:abcd:ef00::1235", "fe80::44ab:cdff:feef:1234" },
		{ 0xffffff, 0xfffe, "fd53:f1ac:ffff:ff00::ffff", "fe80::44ff:ffff:feff:fffe" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct in6_addr address, link_local;
		uint8_t mac[VNET_MAC_BYTES];
		char text[INET6_ADDRSTRLEN];

		vnet_address6(all[i].vni, all[i].id, &address);
		CU_ASSERT_STRING_EQUAL(inet_ntop(AF_INET6, &address, text, sizeof(text)),
				       all[i].address);
		vnet_mac(all[i].vni, all[i].id, mac);
		vnet_link_local(mac, &link_local);
		CU_ASSERT_STRING_EQUAL(inet_ntop(AF_INET6, &link_local, text, sizeof(text)),
				       all[i].link_local);
	}
}

static void longest_names_fit_and_are_ours(void)
{
	struct names_segment names;
	char tap[IF_NAMESIZE];
	uint32_t vni = 0;

	names_of_segment(0xffffff, &names);
	names_of_tap(0xffffff, 0xfffe, tap);
	CU_ASSERT_STRING_EQUAL(names.bridge, "sfbffffff");
	CU_ASSERT_STRING_EQUAL(names.tunnel, "sfxffffff");
	CU_ASSERT_STRING_EQUAL(names.table, "sf-ffffff");
	CU_ASSERT_STRING_EQUAL(tap, "sftffffff-fffe");
	CU_ASSERT_TRUE(names_is_interface(tap, &vni));
	CU_ASSERT_EQUAL(vni, 0xffffff);
	CU_ASSERT_TRUE(names_is_interface(names.bridge, NULL));
	CU_ASSERT_TRUE(names_is_interface(names.tunnel, NULL));
	CU_ASSERT_TRUE(names_is_table(names.table));
	CU_ASSERT_TRUE(names_is_table("sf-forward"));
}

static void names_of_others_are_not_ours(void)
{
	static const char *const interfaces[] = {
		"", "s", "sf", "sfb", "eth0", "sfp0", "sfb00000", "sfb0000001", "sfb00000g",
		"sfb00000A", "sft000001", "sft000001-", "sft000001-x", "sft000001-12345",
		"sft000001_1", "sfx000001-1", "sfy000001", "xsfb000001",
	};
	static const char *const tables[] = { "", "sf", "sf-", "sf-00001", "sf-0000001", "filter",
					      "sf-wire", "sf-00000g", "sf-forwards" };

	for (size_t i = 0; i < ARRAY_SIZE(interfaces); i++)
		CU_ASSERT_FALSE(names_is_interface(interfaces[i], NULL));
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		CU_ASSERT_FALSE(names_is_table(tables[i]));
}

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return EXIT_FAILURE;
	suite = CU_add_suite("names", NULL, NULL);
	CU_add_test(suite, "MACs differ and are local", macs_differ_and_are_local);
	CU_add_test(suite, "IPv6 addresses have VNI and ID", ipv6_addresses_have_vni_and_id);
	CU_add_test(suite, "longest names fit and are ours", longest_names_fit_and_are_ours);
	CU_add_test(suite, "names of others are not ours", names_of_others_are_not_ours);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
