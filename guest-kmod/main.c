// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device: one process prepares, the same holds; all is undone when it has, or closes.
 */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>

#include "snowflock.h"

bool sfk_do_gate = true, sfk_do_readdress = true, sfk_do_connections = true, sfk_do_reseed = true,
     sfk_do_hints = true, sfk_do_later = true, sfk_do_clock = true;
unsigned int sfk_wait_s = SFK_WAIT_S;
static unsigned int id, addressed_us;

module_param_named(gate, sfk_do_gate, bool, 0644);
MODULE_PARM_DESC(gate, "nothing leaves a clone under its parent's name");
module_param_named(readdress, sfk_do_readdress, bool, 0644);
MODULE_PARM_DESC(readdress, "a clone's NIC gets its own MAC and addresses");
module_param_named(connections, sfk_do_connections, bool, 0644);
MODULE_PARM_DESC(connections, "connections of the parent's end in a clone");
module_param_named(reseed, sfk_do_reseed, bool, 0644);
MODULE_PARM_DESC(reseed, "a clone's random numbers are its own");
module_param_named(hints, sfk_do_hints, bool, 0644);
MODULE_PARM_DESC(hints, "pages that are free at the instant are declared dead");
module_param_named(later, sfk_do_later, bool, 0644);
MODULE_PARM_DESC(later, "pages that are freed in a clone are declared dead");
module_param_named(clock, sfk_do_clock, bool, 0644);
MODULE_PARM_DESC(clock, "a clone's clock is set");
module_param_named(wait_s, sfk_wait_s, uint, 0644);
MODULE_PARM_DESC(wait_s, "seconds until the guest goes on without an answer from its host");
module_param(id, uint, 0444);
MODULE_PARM_DESC(id, "of this VM among its clones; 0: it was booted");
module_param(addressed_us, uint, 0444);
MODULE_PARM_DESC(addressed_us, "microseconds from a clone's first moment to addresses in place");

/* Protects all that is below, and what the other files keep between SFK_PREPARE and SFK_HOLD. */
static DEFINE_MUTEX(lock);
static struct file *holder;	/* who has prepared; NULL: nobody */
static u64 holder_op;
static bool is_clone;		/* since this module was loaded */

static void undo(void)
{
	sfk_nic_undo();
	sfk_fork_undo();
	holder = NULL;
}

static int prepare_all(const char *nic)
{
	int err = sfk_fork_prepare();

	if (!err)
		err = sfk_nic_prepare(nic);
	if (!err)
		err = sfk_dead_prepare();
	return err;
}

static long do_prepare(struct file *file, void __user *user)
{
	struct sfk_prepare prepare;
	int err = -EBUSY;

	if (copy_from_user(&prepare, user, sizeof(prepare)))
		return -EFAULT;
	if (!prepare.op)
		return -EINVAL;
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (strnlen(prepare.nic, sizeof(prepare.nic)) == sizeof(prepare.nic))
		return -ENODEV;
	mutex_lock(&lock);
	if (!holder || holder == file) {
		undo();
		err = prepare_all(prepare.nic);
		if (err) {
			undo();
		} else {
			holder = file;
			holder_op = prepare.op;
		}
	}
	mutex_unlock(&lock);
	return err;
}

/* What a clone does as soon as others may run, the urgent first. */
static void settle(const struct sfk_hold *hold, int mac_error, struct sfk_held *result)
{
	int err = sfk_nic_readdress(&hold->letter);

	result->addressed_ns = ktime_get_mono_fast_ns() - hold->letter_ns;
	addressed_us = (unsigned int)(result->addressed_ns / NSEC_PER_USEC);
	result->network_error = -(mac_error ?: err);
	sfk_fork_set_clock(&hold->letter, hold->letter_ns, true);
	sfk_fork_notify();
	sfk_nic_speak();
	result->connections = sfk_nic_end_connections();
}

/*
 * While it holds, and until a clone is itself, nobody else is more urgent than this process.
 * Return: true if that had to be made so.
 */
static bool hurry(void)
{
	if (current->policy != SCHED_NORMAL)
		return false;
	sched_set_fifo_low(current);
	return true;
}

static void stop_hurrying(void)
{
	sched_set_normal(current, task_nice(current));
}

/* Return: 0 and *result filled, or -errno. */
static int hold_guest(struct sfk_held *result)
{
	struct sfk_hold hold = { .op = holder_op, .id = id, .begin_ns = ktime_get_mono_fast_ns() };
	int err, mac_error = 0;

	sfk_nic_lock();
	err = sfk_hold(&hold);
	if (hold.clone) {
		id = hold.letter.id;
		is_clone = true;
		mac_error = sfk_nic_become(&hold.letter);
	}
	sfk_nic_unlock(hold.clone);
	if (hold.clone)
		settle(&hold, mac_error, result);
	else if (!err)
		sfk_fork_set_clock(&hold.letter, hold.letter_ns, false);
	result->id = hold.letter.id;
	result->clone = hold.clone;
	memcpy(result->note, hold.letter.note, sizeof(result->note));
	return err;
}

static long do_hold(struct file *file, void __user *user)
{
	struct sfk_held *result;
	long err = -ENXIO;

	if (clear_user(user, sizeof(*result)))
		return -EFAULT;
	result = kzalloc(sizeof(*result), GFP_KERNEL);
	if (!result)
		return -ENOMEM;
	mutex_lock(&lock);
	if (holder == file) {
		bool hurried = hurry();

		err = hold_guest(result);
		undo();
		if (hurried)
			stop_hurrying();
	}
	mutex_unlock(&lock);
	if (!err && copy_to_user(user, result, sizeof(*result)))
		err = -EFAULT;
	kfree(result);
	return err;
}

static long do_where(struct file *file, void __user *user)
{
	struct sfk_where where;

	sfk_window_where(&where);
	return copy_to_user(user, &where, sizeof(where)) ? -EFAULT : 0;
}

static long on_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	void __user *user = (void __user *)argument;

	switch (command) {
	case SFK_WHERE:
		return do_where(file, user);
	case SFK_PREPARE:
		return do_prepare(file, user);
	case SFK_HOLD:
		return do_hold(file, user);
	default:
		return -ENOTTY;
	}
}

static int on_release(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	if (holder == file)
		undo();
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations operations = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = on_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = on_release,
	.llseek = noop_llseek,
};

static struct miscdevice device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "snowflock",
	.mode = 0600,
	.fops = &operations,
};

static int __init snowflock_init(void)
{
	int err;

	if (inb(SFK_DOORBELL_PORT) != SFK_DOORBELL_ID) {
		pr_err("snowflock: no doorbell at I/O port %#x: this VM's host cannot clone it\n",
		       SFK_DOORBELL_PORT);
		return -ENODEV;
	}
	err = sfk_window_create();
	if (err)
		return err;
	err = sfk_nic_init();
	if (err)
		goto err_window;
	err = misc_register(&device);
	if (err)
		goto err_nic;
	return 0;
err_nic:
	sfk_nic_exit();
err_window:
	sfk_window_destroy(false);
	return err;
}

static void __exit snowflock_exit(void)
{
	misc_deregister(&device);
	sfk_dead_exit();
	sfk_nic_exit();
	sfk_window_destroy(is_clone);
}

module_init(snowflock_init);
module_exit(snowflock_exit);
MODULE_DESCRIPTION("Snowflock: what cannot wait when a VM is cloned");
MODULE_AUTHOR("The Snowflock maintainers");
MODULE_LICENSE("GPL");
MODULE_VERSION("1");
