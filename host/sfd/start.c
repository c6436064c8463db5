/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Checks every field of a start message. */
#include "host/sfd/start.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/sfd/family.h"
#include "host/sfd/fields.h"
#include "host/sfd/hex.h"
#include "host/sfd/request.h"
#include "host/sfd/window.h"

static int parse_numbers(struct start *s, const json_t *msg, size_t len)
{
	unsigned pages;
	uint64_t descriptor_bytes, dead_bytes;

	if (!field_unsigned(msg, "number", 0, INT32_MAX, &s->number) ||
	    !field_unsigned(msg, "ticket", 1, INT32_MAX, &s->ticket) ||
	    !field_unsigned(msg, "file", 0, MEMTAP_MAX_FILES - 1, &s->file) ||
	    !field_unsigned(msg, "checkpoint", 0, INT32_MAX, &s->checkpoint) ||
	    !field_unsigned(msg, "pages", 1, UINT16_MAX, &pages) ||
	    !field_u64(msg, "quiesce", 0, INT64_MAX, &s->quiesce) ||
	    !field_u64(msg, "descriptor_bytes", 1, len, &descriptor_bytes) ||
	    !field_u64(msg, "dead_bytes", 0, len - descriptor_bytes, &dead_bytes))
		return -EINVAL;
	s->pages = (uint16_t)pages;
	s->descriptor_bytes = (size_t)descriptor_bytes;
	s->dead_bytes = (size_t)dead_bytes;
	return 0;
}

static int parse_keys(struct start *s, const json_t *msg)
{
	uint8_t snapshot[sizeof(s->snapshot)];
	const char *request = field_text(msg, "request", "");
	json_t *key;
	size_t i;

	if (hex_parse(field_text(msg, "snapshot", ""), snapshot, sizeof(snapshot)) ||
	    hex_parse(field_text(msg, "key", ""), s->key, sizeof(s->key)) ||
	    !request_key_valid(request))
		return -EINVAL;
	memcpy(&s->snapshot, snapshot, sizeof(snapshot));
	snprintf(s->request, sizeof(s->request), "%s", request);
	s->cancel = json_object_get(msg, "cancel");
	if (!json_is_array(s->cancel) || json_array_size(s->cancel) > SF_XS_MAX_PENDING)
		return -EINVAL;
	json_array_foreach(s->cancel, i, key) {
		if (!json_is_string(key) || !request_key_valid(json_string_value(key)))
			return -EINVAL;
	}
	s->streams = json_object_get(msg, "streams");
	return json_is_array(s->streams) ? 0 : -EINVAL;
}

/* What the window said goes with the dead pages: that it was held for this very operation. */
static int parse_window(struct start *s, const json_t *msg)
{
	struct agent_window window;

	if (!s->dead_bytes)
		return 0;
	if (hex_parse(field_text(msg, "window", ""), (uint8_t *)&s->head, WINDOW_HEAD_BYTES))
		return -EINVAL;
	window = (struct agent_window){ .gfn = s->head.gfn, .pages = s->head.pages };
	return window_check(&window, s->quiesce, &s->head) ? -EINVAL : 0;
}

static int parse_clones(struct start *s, const json_t *msg)
{
	json_t *clones = json_object_get(msg, "clones"), *entry;
	size_t count = json_array_size(clones), i;

	if (!count || count > SF_MAX_CLONES)
		return -EINVAL;
	s->clones = calloc(count, sizeof(*s->clones));
	if (!s->clones)
		return -ENOMEM;
	s->count = (unsigned)count;
	json_array_foreach(clones, i, entry) {
		struct start_clone *c = &s->clones[i];

		if (!field_unsigned(entry, "id", 1, s->count, &c->id) ||
		    !field_unsigned(entry, "slot", 1, FAMILY_MAX_SLOT, &c->slot) ||
		    !field_unsigned(entry, "serial", 1, INT32_MAX, &c->serial))
			return -EINVAL;
	}
	return 0;
}

/* Each disk's snapshot. */
static int parse_disks(struct start *s, const json_t *msg)
{
	const json_t *disks = json_object_get(msg, "disks"), *entry;
	size_t i;

	if (json_array_size(disks) > VMM_MAX_DISKS)
		return -EINVAL;
	json_array_foreach(disks, i, entry) {
		struct start_disk *k = &s->disks[i];
		uint8_t snapshot[sizeof(k->snapshot)];
		unsigned pages;

		if (hex_parse(field_text(entry, "snapshot", ""), snapshot, sizeof(snapshot)) ||
		    hex_parse(field_text(entry, "key", ""), k->key, sizeof(k->key)) ||
		    !field_unsigned(entry, "pages", 1, UINT16_MAX, &pages))
			return -EINVAL;
		memcpy(&k->snapshot, snapshot, sizeof(snapshot));
		k->pages = (uint16_t)pages;
		s->disk_count++;
	}
	return 0;
}

/* Where a member has the pages of each disk. */
static int parse_member_disks(struct start *s, const json_t *member, struct in_addr addr)
{
	const json_t *ports = json_object_get(member, "disks");
	int rc = 0;

	if (json_array_size(ports) != s->disk_count)
		return -EINVAL;
	for (unsigned i = 0; i < s->disk_count && !rc; i++) {
		json_int_t port = json_integer_value(json_array_get(ports, i));

		if (port < 1 || port > UINT16_MAX)
			return -EINVAL;
		rc = route_add(&s->disks[i].route, addr, (uint16_t)port);
	}
	return rc;
}

/* The disks' pages go the way of those of memory. */
static int begin_disk_routes(struct start *s)
{
	int rc = 0;

	for (unsigned i = 0; i < s->disk_count && !rc; i++) {
		s->disks[i].route.mode = s->route.mode;
		s->disks[i].route.compress = s->route.compress;
		rc = route_add(&s->disks[i].route, (struct in_addr){ 0 }, 0);
	}
	return rc;
}

/* From whom the pages come, and to whom they may have to go. */
static int parse_route(struct start *s, const json_t *msg)
{
	const json_t *members = json_object_get(msg, "members"), *member;
	int rc = mc_mode_parse(field_text(msg, "mode", ""), &s->route.mode);
	uint64_t push;
	size_t i;

	if (rc || !json_is_array(members) || !field_u64(msg, "push", 0, UINT32_MAX, &push) ||
	    !field_bool(msg, "compress", &s->route.compress))
		return -EINVAL;
	s->route.push_pages = (uint32_t)push;
	rc = route_add(&s->route, (struct in_addr){ 0 }, 0);
	rc = rc ? rc : begin_disk_routes(s);
	json_array_foreach(members, i, member) {
		struct in_addr addr;
		unsigned port;

		if (inet_pton(AF_INET, field_text(member, "address", ""), &addr) != 1 ||
		    !field_unsigned(member, "pages", 1, UINT16_MAX, &port) ||
		    route_find(&s->route, addr, (uint16_t)port))
			return -EINVAL;
		rc = rc ? rc : route_add(&s->route, addr, (uint16_t)port);
		rc = rc ? rc : parse_member_disks(s, member, addr);
	}
	return rc == -ENOSPC ? -EINVAL : rc;
}

int start_parse(struct start *s, json_t *msg, const uint8_t *bytes, size_t len)
{
	int rc;

	memset(s, 0, sizeof(*s));
	rc = parse_numbers(s, msg, len);
	if (!rc)
		rc = parse_keys(s, msg);
	if (!rc)
		rc = parse_window(s, msg);
	if (!rc)
		rc = parse_clones(s, msg);
	if (!rc)
		rc = parse_disks(s, msg);
	if (!rc)
		rc = parse_route(s, msg);
	if (rc) {
		start_fini(s);
		return rc;
	}
	s->descriptor = bytes;
	s->dead = s->descriptor + s->descriptor_bytes;
	s->xs_state = s->dead + s->dead_bytes;
	s->xs_bytes = len - s->descriptor_bytes - s->dead_bytes;
	return 0;
}

void start_fini(struct start *s)
{
	free(steal_ptr(&s->clones));
	route_fini(&s->route);
	for (unsigned i = 0; i < s->disk_count; i++)
		route_fini(&s->disks[i].route);
	explicit_bzero(s->key, sizeof(s->key));
	explicit_bzero(s->disks, sizeof(s->disks));
}
