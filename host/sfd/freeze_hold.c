/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel module's part in a freeze (proto/kmod.h): waited for, looked at, let go. */
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "host/sfd/freeze_internal.h"
#include "host/sfd/window.h"

void hold_expect(struct freeze *z, const struct agent_quiesce *q)
{
	const struct guest *g = z->guest;
	bool holds = q->flags & AGENT_Q_HOLD;

	if (holds && !window_fits(&q->window, g->vm.family->ram_bytes)) {
		freeze_error(z, EIO, "the window of the guest's kernel module is not in its memory");
		return;
	}
	if (holds)
		z->window = q->window;
	if (!z->ticket || window_same(&z->window, &z->ticket->window))
		return;
	if (!holds && window_same(&g->window, &z->ticket->window))
		freeze_error(z, EAGAIN, "the guest's kernel module could not hold it: the agent's "
					"log says why");
	else
		freeze_error(z, EAGAIN, "the guest's kernel module was loaded or unloaded since "
					"the ticket was granted: ask for a new one");
}

bool hold_reached(const struct freeze *z)
{
	struct sfk_window head;

	return !window_read(z->guest->ram_fd, &z->window, z->op, &head);
}

int hold_take(struct freeze *z)
{
	struct guest *g = z->guest;
	struct instant *i = z->instant;
	uint64_t ram_bytes = g->vm.family->ram_bytes;
	const char *wrong;
	int rc;

	if (!z->window.pages)
		return -1;
	wrong = window_read(g->ram_fd, &z->window, z->op, &i->head);
	if (wrong) {
		memset(&i->head, 0, sizeof(i->head));
		freeze_error(z, EIO, "%s", wrong);
		return -1;
	}
	z->held = true;
	if (z->error)
		return -1;
	rc = window_read_dead(g->ram_fd, &z->window, &i->head, ram_bytes, &i->dead,
			      &i->dead_pages);
	if (!rc) {
		i->window = z->window;
		i->dead_bytes = window_dead_bytes(ram_bytes);
		rc = window_dead_fd(i->dead, i->dead_bytes);
	}
	if (rc < 0)
		freeze_error(z, -rc, "the guest's unused pages cannot be noted: %s", strerror(-rc));
	return rc < 0 ? -1 : rc;
}

int hold_release(struct freeze *z, unsigned count)
{
	struct agent_resume note = { .op = z->op, .count = count };
	struct sfk_letter letter;
	int rc;

	vm_identity(&z->guest->vm, &note);
	window_letter(&letter, &note);
	rc = window_post(z->guest->ram_fd, &z->window, &letter);
	window_letter_wipe(&letter);
	return rc;
}

double hold_pause_ms(const struct freeze *z)
{
	const struct instant *i = z->instant;
	const struct vmm_times *t = vmm_times(z->guest->vm.vmm);
	/* it runs while QEMU prepares the saving, until it rings */
	uint64_t from_ns = z->held && z->rung_ns ? z->rung_ns : t->stopped_ns;
	double pause_ms = (double)(t->running_ns - from_ns + z->earlier_ns) / 1e6;

	log_info("vm %s: paused %.1f ms (save %.1f, arm and continue %.1f) after %.1f of getting "
		 "ready, descriptor %zu bytes",
		 z->guest->vm.name, pause_ms, (double)(t->saved_ns - t->stopped_ns) / 1e6,
		 (double)(t->running_ns - t->saved_ns) / 1e6,
		 (double)(t->stopped_ns - t->stop_ns) / 1e6, i->descriptor_bytes);
	if (z->held)
		log_info("vm %s: held by its kernel module within %.1f ms, %.1f ms before it was "
			 "stopped%s, %llu of %llu pages dead",
			 z->guest->vm.name, window_hold_ms(&i->head),
			 (double)(t->stopped_ns - from_ns) / 1e6,
			 z->waited ? " for a second time" : "", (unsigned long long)i->dead_pages,
			 (unsigned long long)z->guest->vm.family->ram_bytes / SFK_PAGE_BYTES);
	return pause_ms;
}
