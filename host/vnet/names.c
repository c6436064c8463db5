/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What interfaces, tables, MACs and IPv6 addresses of a segment are called. */
#include "host/vnet/names.h"

#include <stdio.h>
#include <string.h>

#define MAC_FIRST_BYTE 0x46		/* locally administered, unicast */
#define GROUP_BASE 0x53000000u		/* the VNI is in the lower three bytes */
#define VNI_DIGITS 6
#define MAX_ID_DIGITS 4

void vnet_mac(uint32_t vni, unsigned id, uint8_t mac[VNET_MAC_BYTES])
{
	mac[0] = MAC_FIRST_BYTE;
	mac[1] = (uint8_t)(vni >> 16);
	mac[2] = (uint8_t)(vni >> 8);
	mac[3] = (uint8_t)vni;
	mac[4] = (uint8_t)(id >> 8);
	mac[5] = (uint8_t)id;
}

void vnet_address6(uint32_t vni, unsigned id, struct in6_addr *address)
{
	const uint32_t host = id + 1;	/* ::0 would be that of any router (RFC 4291, 2.6.1) */

	*address = (struct in6_addr){ .s6_addr = {
		0xfd, 0x53, 0xf1, 0xac, (uint8_t)(vni >> 16), (uint8_t)(vni >> 8), (uint8_t)vni, 0,
		[12] = (uint8_t)(host >> 24), (uint8_t)(host >> 16), (uint8_t)(host >> 8),
		(uint8_t)host,
	} };
}

void vnet_link_local(const uint8_t mac[VNET_MAC_BYTES], struct in6_addr *address)
{
	*address = (struct in6_addr){ .s6_addr = {
		0xfe, 0x80,
		[8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5],
	} };
}

void names_of_segment(uint32_t vni, struct names_segment *names)
{
	vni &= 0xffffff;
	snprintf(names->bridge, sizeof(names->bridge), NAMES_BRIDGE_PREFIX "%06x", vni);
	snprintf(names->tunnel, sizeof(names->tunnel), VNET_NAME_PREFIX "x%06x", vni);
	snprintf(names->table, sizeof(names->table), VNET_NAME_PREFIX "-%06x", vni);
	names->group = GROUP_BASE | vni;
}

void names_of_tap(uint32_t vni, unsigned id, char tap[IF_NAMESIZE])
{
	snprintf(tap, IF_NAMESIZE, VNET_NAME_PREFIX "t%06x-%x", vni & 0xffffff, id & 0xffff);
}

void names_of_mac(uint32_t vni, unsigned id, char text[NAMES_MAC_TEXT_BYTES])
{
	uint8_t mac[VNET_MAC_BYTES];

	vnet_mac(vni, id, mac);
	snprintf(text, NAMES_MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1],
		 mac[2], mac[3], mac[4], mac[5]);
}

/* Reads between `least` and `most` lower-case hexadecimal digits. Return: how many, or 0. */
static unsigned hex_digits(const char *text, unsigned least, unsigned most, uint32_t *value)
{
	static const char digits[] = "0123456789abcdef";
	const char *digit;
	unsigned n = 0;

	*value = 0;
	for (; n < most && text[n] && (digit = strchr(digits, text[n])); n++)
		*value = *value << 4 | (uint32_t)(digit - digits);
	return n >= least ? n : 0;
}

bool names_is_interface(const char *name, uint32_t *vni)
{
	const size_t prefix_bytes = strlen(VNET_NAME_PREFIX);
	uint32_t found, id;
	char kind;

	if (strncmp(name, VNET_NAME_PREFIX, prefix_bytes))
		return false;
	name += prefix_bytes;
	kind = *name;
	if (!kind || !strchr("bxt", kind) || !hex_digits(++name, VNI_DIGITS, VNI_DIGITS, &found))
		return false;
	name += VNI_DIGITS;
	if (kind == 't') {
		if (*name++ != '-')
			return false;
		name += hex_digits(name, 1, MAX_ID_DIGITS, &id);
		if (name[-1] == '-')
			return false;
	}
	if (vni)
		*vni = found;
	return *name == '\0';
}

bool names_is_table(const char *name)
{
	const size_t prefix_bytes = strlen(VNET_NAME_PREFIX "-");
	uint32_t vni;

	if (!strcmp(name, NAMES_FORWARD_TABLE))
		return true;
	return !strncmp(name, VNET_NAME_PREFIX "-", prefix_bytes) &&
	       strlen(name) == prefix_bytes + VNI_DIGITS &&
	       hex_digits(name + prefix_bytes, VNI_DIGITS, VNI_DIGITS, &vni);
}
