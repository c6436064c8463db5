// SPDX-License-Identifier: GPL-2.0-only
/*
 * What has to be new after a fork of the whole machine: random numbers, and the time of day.
 *
 * The kernel makes new keys for its random numbers when it hears of another VM generation, from a
 * device of the hypervisor: by an interrupt, ACPI's interpreter and a work queue. Until then a
 * clone would draw what its siblings draw. So here it is done in the instant itself, with entropy
 * from the host; making new keys is not exported, but is an ioctl of /dev/urandom, for which nothing
 * but the file is needed. The device is told afterwards, for the sake of the others who listen,
 * directly and without its interrupt: interpreting AML costs a clone milliseconds just then.
 */
#include <linux/acpi.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/major.h>
#include <linux/random.h>
#include <linux/string.h>
#include <linux/timekeeping.h>

#include "snowflock.h"

#define URANDOM "/dev/urandom"
#define URANDOM_DEVICE MKDEV(MEM_MAJOR, 9)
#define QEMU_GENERATION_GPE 5	/* _E05 in its tables */
#define CLOCK_TOLERANCE_NS NSEC_PER_MSEC

static struct file *urandom;
static struct acpi_device *generation;	/* with a reference */
static bool gpe_masked;

/* ---- the device that tells of generations ---- */

static void find_generation(void)
{
	static const char *const ids[] = { "VM_GEN_COUNTER", "VMGENCTR" };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ids) && !generation; i++)
		generation = acpi_dev_get_first_match_dev(ids[i], NULL, -1);
}

static void mask_interrupt(void)
{
	if (generation && !strcmp(acpi_device_hid(generation), "QEMUVGID"))
		gpe_masked = ACPI_SUCCESS(acpi_mask_gpe(NULL, QEMU_GENERATION_GPE, TRUE));
}

static void unmask_interrupt(void)
{
	if (!gpe_masked)
		return;
	acpi_mask_gpe(NULL, QEMU_GENERATION_GPE, FALSE);
	gpe_masked = false;
}

void sfk_fork_notify(void)
{
	struct acpi_driver *driver;

	if (!generation || !sfk_do_reseed)
		return;
	device_lock(&generation->dev);
	if (generation->dev.driver) {
		driver = to_acpi_driver(generation->dev.driver);
		if (driver->ops.notify)
			driver->ops.notify(generation, ACPI_NOTIFY_DEVICE_CHECK);
	}
	device_unlock(&generation->dev);
	if (gpe_masked)
		acpi_clear_gpe(NULL, QEMU_GENERATION_GPE);
}

/* ---- random numbers ---- */

static int open_urandom(void)
{
	struct file *file = filp_open(URANDOM, O_RDONLY, 0);

	if (IS_ERR(file))
		return PTR_ERR(file);
	if (!S_ISCHR(file_inode(file)->i_mode) || file_inode(file)->i_rdev != URANDOM_DEVICE ||
	    !file->f_op->unlocked_ioctl) {
		fput(file);
		return -ENODEV;
	}
	urandom = file;
	return 0;
}

void sfk_fork_reseed(struct sfk_letter *letter)
{
	if (!sfk_do_reseed)
		return;
	add_device_randomness(letter->entropy, sizeof(letter->entropy));
	urandom->f_op->unlocked_ioctl(urandom, RNDRESEEDCRNG, 0);
}

int sfk_fork_prepare(void)
{
	int err = open_urandom();

	if (err)
		return err;
	find_generation();
	mask_interrupt();
	return 0;
}

void sfk_fork_undo(void)
{
	unmask_interrupt();
	acpi_dev_put(generation);
	generation = NULL;
	if (urandom)
		fput(urandom);
	urandom = NULL;
}

/* ---- the time of day ---- */

/*
 * A clone's letter has the time of the moment in which it was seen. That of the parent was written
 * while it stood, so its clock, which stood with it, may be behind, but is not ahead.
 */
void sfk_fork_set_clock(const struct sfk_letter *letter, u64 letter_ns, bool exact)
{
	s64 right_ns = letter->realtime_ns + ktime_get_mono_fast_ns() - letter_ns;
	s64 off_ns = right_ns - ktime_get_real_ns();
	struct timespec64 right;

	if (!sfk_do_clock || !letter->realtime_ns || (off_ns < 0 && !exact) ||
	    abs(off_ns) <= CLOCK_TOLERANCE_NS)
		return;
	right = ns_to_timespec64(right_ns);
	do_settimeofday64(&right);
}
