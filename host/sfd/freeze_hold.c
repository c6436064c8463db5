/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel module's part in a freeze (proto/kmod.h): waited for, looked at, let go. */
#include <errno.h>
#include <string.h>

#include "common/io.h"
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

bool hold_reached(struct freeze *z)
{
	struct sfk_window head;

	if (window_read(z->guest->ram_fd, &z->window, z->op, &head))
		return false;
	z->rung_ns = io_now_ns();
	return true;
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
