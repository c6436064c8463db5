/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes before a guest: the request is checked, then its images are opened, one after the
 * other, which may take long. Nothing of the VM is there yet when an image turns out to be no good.
 */
#define _GNU_SOURCE
#include "host/sfd/boot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "host/sfd/control.h"
#include "host/sfd/fields.h"
#include "host/sfd/guest.h"
#include "host/sfd/image.h"
#include "proto/control.h"

struct boot {
	struct daemon *daemon;
	struct control *owner;
	json_t *request; /* the wish's texts are its */
	struct guest_wish wish;
	struct image_opening *opening;
	LIST_ENTRY(boot) entry;
};

static LIST_HEAD(, boot) boots = LIST_HEAD_INITIALIZER(boots);

static void boot_free(struct boot *b)
{
	LIST_REMOVE(b, entry);
	image_cancel(b->opening);
	while (b->wish.disk_count)
		image_put(b->wish.images[--b->wish.disk_count]);
	json_decref(b->request);
	free(b);
}

static const char *boot_image(const struct boot *b, size_t n)
{
	return json_string_value(json_array_get(json_object_get(b->request, "images"), n));
}

static void boot_go_on(struct boot *b);

static void image_progress(void *arg, unsigned percent)
{
	struct boot *b = arg;

	control_event(b->owner, json_pack("{ss ss ss si}", "ev", "boot", "step", "image", "path",
					  boot_image(b, b->wish.disk_count), "percent",
					  (int)percent));
}

static void image_opened(void *arg, int error, const char *why, struct image *image)
{
	struct boot *b = arg;

	b->opening = NULL;
	if (error) {
		control_refuse(b->owner, b->request, error, "%s", why);
		boot_free(b);
		return;
	}
	b->wish.images[b->wish.disk_count++] = image;
	boot_go_on(b);
}

/* The next image, or the guest. */
static void boot_go_on(struct boot *b)
{
	static const struct image_events events = { .progress = image_progress,
						    .opened = image_opened };
	const char *path = boot_image(b, b->wish.disk_count);
	char why[WHY_BYTES];
	int rc;

	if (path) {
		b->opening = image_open(b->daemon, path, &events, b);
		if (b->opening)
			return;
		control_refuse(b->owner, b->request, -ENOMEM, "out of memory");
		boot_free(b);
		return;
	}
	rc = guest_boot(b->daemon, &b->wish, b->owner, b->request, why);
	if (rc)
		control_refuse(b->owner, b->request, rc, "%s", why);
	boot_free(b);
}

/* ---- checks ---- */

/* Return: NULL, or what is wrong with the list of images. */
static const char *check_images(const json_t *images)
{
	const json_t *path;
	size_t i;

	if (images && !json_is_array(images))
		return "images are a list of paths";
	if (json_array_size(images) > VMM_MAX_DISKS)
		return "a VM has up to 4 disks";
	_Static_assert(VMM_MAX_DISKS == 4, "as the sentence says");
	json_array_foreach(images, i, path) {
		if (!json_is_string(path) || *json_string_value(path) != '/')
			return "an image is named by its absolute path";
	}
	return NULL;
}

/* Return: NULL and *wish, or what is wrong. */
static const char *parse_wish(json_t *msg, struct guest_wish *wish)
{
	const json_t *images = json_object_get(msg, "images");
	const json_t *agent = json_object_get(msg, "agent");

	if (!field_u64(msg, "mem_bytes", 64 << 20, MEMTAP_MAX_RAM_BYTES, &wish->mem_bytes) ||
	    !field_unsigned(msg, "cpus", 1, 64, &wish->cpus))
		return "a VM has at least 64 MB and 1 to 64 CPUs";
	if (!field_bool(msg, "ipv6", &wish->ipv6))
		return "a VM has IPv6 or not: true or false";
	if (agent && !json_is_boolean(agent))
		return "an agent is expected or not: true or false";
	wish->mem_bytes &= ~((1ull << 20) - 1);
	wish->agent = !json_is_false(agent);
	wish->name = field_text(msg, "name", NULL);
	wish->kernel = field_text(msg, "kernel", NULL);
	wish->initrd = field_text(msg, "initrd", NULL);
	wish->append = field_text(msg, "append", "");
	if (json_array_size(images) && !wish->kernel && (wish->initrd || *wish->append))
		return "an initial RAM disk and options are for a kernel: name one, or leave all "
		       "to the image";
	return check_images(images);
}

void boot_serve(struct daemon *d, struct control *owner, json_t *request)
{
	struct boot *b = calloc(1, sizeof(*b));
	const char *wrong = b ? parse_wish(request, &b->wish) : "out of memory";

	if (wrong) {
		control_refuse(owner, request, b ? -EINVAL : -ENOMEM, "%s", wrong);
	} else if (strlen(b->wish.append) > CONTROL_MAX_APPEND) {
		wrong = "";
		control_refuse(owner, request, -E2BIG, "the kernel's options are more than %u bytes",
			       CONTROL_MAX_APPEND);
	}
	if (wrong) {
		free(b);
		return;
	}
	b->daemon = d;
	b->owner = owner;
	b->request = json_incref(request);
	LIST_INSERT_HEAD(&boots, b, entry);
	boot_go_on(b);
}

void boot_control_lost(const struct control *owner)
{
	struct boot *b, *next;

	for (b = LIST_FIRST(&boots); b; b = next) {
		next = LIST_NEXT(b, entry);
		if (!owner || b->owner == owner)
			boot_free(b);
	}
}
