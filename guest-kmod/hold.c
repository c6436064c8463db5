// SPDX-License-Identifier: GPL-2.0-only
/*
 * The instant of a clone: every CPU is in stop_machine(), and the parent and each of its clones
 * leave it as who they are.
 */
#include <linux/cpu.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/ktime.h>
#include <linux/nmi.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>

#include "snowflock.h"

/*
 * A clock source of few bits wraps around if no timer interrupt reads it for some seconds, and so
 * does what is read here: only steps forward count.
 */
static int wait_for_letter(u64 op)
{
	u64 limit_ns = (u64)sfk_wait_s * NSEC_PER_SEC;
	u64 last_ns = ktime_get_mono_fast_ns();
	u64 waited_ns = 0;

	while (!sfk_window_has_letter(op)) {
		u64 now_ns = ktime_get_mono_fast_ns();

		if (now_ns > last_ns)
			waited_ns += now_ns - last_ns;
		last_ns = now_ns;
		if (waited_ns > limit_ns)
			return -ETIMEDOUT;
		touch_nmi_watchdog();
		cpu_relax();
	}
	return 0;
}

static void become_clone(struct sfk_hold *hold)
{
	sfk_fork_reseed(&hold->letter);
	sfk_window_renew();
	sfk_dead_record();
	sfk_nic_forget_parent();
}

/* Runs on one CPU, with interrupts off, while the others wait. */
static int held(void *data)
{
	struct sfk_hold *hold = data;
	u64 dead;
	int err;

	sfk_nic_quiet();
	dead = sfk_dead_declare();
	sfk_window_announce(hold->op, dead, ktime_get_mono_fast_ns() - hold->begin_ns);
	outb(0, SFK_DOORBELL_PORT);
	err = wait_for_letter(hold->op);
	hold->letter_ns = ktime_get_mono_fast_ns();
	if (err) {
		sfk_window_give_up();
	} else {
		sfk_window_take_letter(&hold->letter);
		hold->clone = hold->letter.id != hold->id;
	}
	if (hold->clone)
		become_clone(hold);
	else
		sfk_nic_go_on();
	memzero_explicit(hold->letter.entropy, sizeof(hold->letter.entropy));
	return err;
}

/*
 * Where there is one CPU nobody needs to be stopped: with interrupts off, others are where they
 * were scheduled away, as in stop_machine(). A clone is itself sooner without a thread to switch
 * from.
 * Return: false if there are more.
 */
static bool hold_alone(struct sfk_hold *hold, int *err)
{
	unsigned long flags;
	bool alone;

	cpus_read_lock();
	alone = num_online_cpus() == 1;
	if (alone) {
		local_irq_save(flags);
		*err = held(hold);
		local_irq_restore(flags);
	}
	cpus_read_unlock();
	return alone;
}

int sfk_hold(struct sfk_hold *hold)
{
	int err;

	return hold_alone(hold, &err) ? err : stop_machine(held, hold, NULL);
}
