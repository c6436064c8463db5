/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is kept of a clone operation (README, the file of sfctl run --json). */
#include <string.h>

#include "host/sfd/guest.h"
#include "host/sfd/window.h"

static json_t *milliseconds(double ms)
{
	return ms < 0 ? json_null() : json_real(ms);
}

json_t *ticket_record(const struct ticket *t)
{
	static const struct instant none = { .disk_ms = -1 };
	const struct instant *instant = t->instant ? t->instant : &none;
	json_t *clones, *hosts;

	if (!t->op)
		return NULL;
	clones = json_array();
	hosts = json_array();
	for (unsigned i = 0; i < t->count; i++) {
		const struct child *c = &t->children[i];
		json_t *status = !c->ended			      ? json_null()
				 : !strcmp(c->state, SF_CLONE_EXITED) ? json_integer(c->status)
								      : json_string(c->state);
		bool listed = false;

		for (unsigned k = 0; k < i; k++)
			listed = listed || t->children[k].host == c->host;
		if (!listed)
			json_array_append_new(hosts, json_string(c->host->name));
		json_array_append_new(
			clones, json_pack("{si ss so so sI sI sI so}", "id", (int)i + 1, "host",
					  c->host->name, "running_ms", milliseconds(c->running_ms),
					  "answered_ms", milliseconds(c->answered_ms), "faults",
					  (json_int_t)c->faults, "pages_fetched",
					  (json_int_t)c->pages_fetched, "bytes_fetched",
					  (json_int_t)c->bytes_fetched, "status", status));
	}
	return json_pack("{si si so ss sf sf so so sI sI so so}", "n", (int)t->asked, "granted",
			 (int)t->count, "hosts", hosts, "mode", mc_mode_name(instant->route.mode),
			 "ticket_ms", (double)t->ticket_ns / 1e6,
			 "pause_ms", t->pause_ms, "hold_ms",
			 milliseconds(window_hold_ms(&instant->head)), "disk_ms",
			 milliseconds(instant->disk_ms), "dead_pages",
			 (json_int_t)instant->dead_pages, "descriptor_bytes",
			 (json_int_t)instant->descriptor_bytes, "clones", clones, "join_ms",
			 milliseconds(t->join_ms));
}
