/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks every field of a reservation. */
#include "host/sfd/reserve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/family.h"
#include "host/sfd/fields.h"
#include "host/sfd/probe_wire.h"
#include "host/sfd/window.h"
#include "proto/vdisk.h"
#include "proto/xenstore-tree.h"

static int parse_group(struct reservation *v, const json_t *spec)
{
	unsigned port;

	if (inet_pton(AF_INET, field_text(spec, "group", ""), &v->group.sin_addr) != 1 ||
	    !field_unsigned(spec, "group_port", 1, UINT16_MAX, &port))
		return -EINVAL;
	v->group.sin_family = AF_INET;
	v->group.sin_port = htons((uint16_t)port);
	return probe_group_valid(&v->group) ? 0 : -EINVAL;
}

static int parse_disks(struct reservation *v, const json_t *sizes)
{
	const json_t *size;
	size_t i;

	if (json_array_size(sizes) > VMM_MAX_DISKS)
		return -EINVAL;
	json_array_foreach(sizes, i, size) {
		json_int_t bytes = json_integer_value(size);

		if (bytes < VDISK_BLOCK_BYTES || bytes > (json_int_t)VDISK_MAX_BYTES ||
		    bytes % VDISK_BLOCK_BYTES)
			return -EINVAL;
		v->disks.bytes[v->disks.count++] = (uint64_t)bytes;
	}
	return 0;
}

static int parse_family(struct reservation *v, const json_t *spec)
{
	if (!field_unsigned(spec, "number", 0, INT32_MAX, &v->number) ||
	    !field_unsigned(spec, "cpus", 1, 64, &v->cpus) ||
	    !field_unsigned(spec, "vni", 1, (1u << 24) - 1, &v->vni) ||
	    !field_u64(spec, "ram_bytes", 1 << 20, MEMTAP_MAX_RAM_BYTES, &v->ram_bytes) ||
	    v->ram_bytes % (1 << 20) || !field_bool(spec, "ipv6", &v->ipv6) ||
	    inet_pton(AF_INET, field_text(spec, "base", ""), &v->base) != 1 ||
	    parse_disks(v, json_object_get(spec, "disks")))
		return -EINVAL;
	return parse_group(v, spec);
}

static int parse_slots(struct reservation *v, const json_t *array)
{
	size_t count = json_array_size(array), i;
	const json_t *slot;

	if (!count || count > SF_MAX_CLONES)
		return -EINVAL;
	v->slots = calloc(count, sizeof(*v->slots));
	if (!v->slots)
		return -ENOMEM;
	v->count = (unsigned)count;
	json_array_foreach(array, i, slot) {
		json_int_t number = json_integer_value(slot);

		if (number < 1 || number > FAMILY_MAX_SLOT)
			return -EINVAL;
		v->slots[i] = (unsigned)number;
	}
	return 0;
}

static int parse_window(struct reservation *v, const json_t *msg)
{
	if (!field_u64(msg, "window_gfn", 0, INT64_MAX, &v->window.gfn) ||
	    !field_u64(msg, "window_pages", 0, SFK_MAX_WINDOW_PAGES, &v->window.pages))
		return -EINVAL;
	return !v->window.pages || window_fits(&v->window, v->ram_bytes) ? 0 : -EINVAL;
}

int reserve_parse(struct reservation *v, const json_t *msg)
{
	int rc;

	memset(v, 0, sizeof(*v));
	rc = parse_family(v, json_object_get(msg, "family"));
	if (!rc && !field_unsigned(msg, "ticket", 1, INT32_MAX, &v->ticket))
		rc = -EINVAL;
	if (!rc)
		rc = parse_window(v, msg);
	if (!rc)
		rc = parse_slots(v, json_object_get(msg, "slots"));
	if (rc)
		reserve_fini(v);
	return rc;
}

void reserve_fini(struct reservation *v)
{
	free(steal_ptr(&v->slots));
}
