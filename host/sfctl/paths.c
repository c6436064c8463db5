/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Finds the other programs, installed or in the build tree. */
#include "host/sfctl/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"

/* Where in a build tree this program lies: libtool puts the real one in .libs. */
static const char *const own_places[] = { "/host/sfctl/.libs/sfctl", "/host/sfctl/.libs/lt-sfctl",
					  "/host/sfctl/sfctl" };

/* In a build tree each program is in the folder of its part; the first that is there is taken. */
static const struct tree_place {
	const char *name, *place;
} tree_places[] = {
	{ "sfd", "host/sfd/sfd" },
	{ "sf-memtap", "host/memtap/sf-memtap" },
	{ "sf-uffd-shim.so", "host/vmm/.libs/sf-uffd-shim.so" },
};

static const char *from_environment(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

bool paths_build_tree(char dir[PATH_MAX])
{
	ssize_t len = readlink("/proc/self/exe", dir, PATH_MAX - 1);

	for (unsigned i = 0; len > 0 && i < ARRAY_SIZE(own_places); i++) {
		size_t end = strlen(own_places[i]);

		dir[len] = 0;
		if ((size_t)len > end && !strcmp(dir + len - end, own_places[i])) {
			dir[(size_t)len - end] = 0;
			return true;
		}
	}
	return false;
}

bool paths_libexec(char dir[PATH_MAX])
{
	const char *wanted = from_environment("SF_LIBEXEC");

	if (!wanted)
		return paths_build_tree(dir);
	snprintf(dir, PATH_MAX, "%s", wanted);
	return true;
}

/* `name` in the folder of helpers `dir`, which may be a build tree. */
static bool helper_in(const char *dir, const char *name, char path[PATH_MAX])
{
	for (unsigned i = 0; i < ARRAY_SIZE(tree_places); i++) {
		if (strcmp(tree_places[i].name, name))
			continue;
		snprintf(path, PATH_MAX, "%s/%s", dir, tree_places[i].place);
		if (!access(path, R_OK))
			return true;
	}
	snprintf(path, PATH_MAX, "%s/%s", dir, name);
	return !access(path, R_OK);
}

void paths_sfd(char path[PATH_MAX])
{
	char dir[PATH_MAX];

	if (!paths_libexec(dir) || !helper_in(dir, "sfd", path))
		snprintf(path, PATH_MAX, "%s/sfd", SF_SBINDIR);
}

void paths_helper(const char *name, char path[PATH_MAX])
{
	char dir[PATH_MAX];

	if (!paths_libexec(dir) || !helper_in(dir, name, path))
		snprintf(path, PATH_MAX, "%s/%s", SF_LIBEXECDIR, name);
}

void paths_guest(const char *wanted, char dir[PATH_MAX])
{
	char tree[PATH_MAX], kernel[PATH_MAX + 32];

	if (!wanted)
		wanted = from_environment("SF_GUEST");
	if (!wanted && paths_build_tree(tree)) {
		snprintf(kernel, sizeof(kernel), "%s/guest-image/out/vmlinuz", tree);
		if (!access(kernel, R_OK)) {
			snprintf(dir, PATH_MAX, "%.*s/guest-image/out", PATH_MAX - 32, tree);
			return;
		}
	}
	snprintf(dir, PATH_MAX, "%s", wanted ? wanted : SF_GUESTDIR);
}
