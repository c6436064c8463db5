/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Installed places come from configure; --libexec-dir (a build tree's folder) comes first. */
#include "host/sfd/paths.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* In a build tree each program is in the folder of its part. */
static const struct tree_place {
	const char *name, *place;
} tree_places[] = {
	{ "sf-memtap", "host/memtap/sf-memtap" },
	{ "sf-uffd-shim.so", "host/vmm/.libs/sf-uffd-shim.so" },
	{ "sf-vdisk.so", "host/vdisk/.libs/sf-vdisk.so" },
};

void paths_libexec(const struct daemon *d, const char *name, char *path, size_t path_bytes)
{
	const char *dir = d->config.libexec_dir;

	for (size_t i = 0; dir && i < sizeof(tree_places) / sizeof(tree_places[0]); i++) {
		if (strcmp(name, tree_places[i].name))
			continue;
		snprintf(path, path_bytes, "%s/%s", dir, tree_places[i].place);
		if (!access(path, R_OK))
			return;
	}
	snprintf(path, path_bytes, "%s/%s", dir ? dir : SF_LIBEXECDIR, name);
}

void paths_guest(const struct daemon *d, const char *name, char *path, size_t path_bytes)
{
	snprintf(path, path_bytes, "%s/%s", d->config.guest_dir ? d->config.guest_dir : SF_GUESTDIR,
		 name);
}
