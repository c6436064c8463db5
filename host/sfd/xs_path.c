/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The names of XenStore nodes: which are valid, how relative ones become absolute. */
#include "host/sfd/xs_path.h"

#include <stdio.h>
#include <string.h>

#define HOMES "/local/domain/"
#define NAME_CHARS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@"

void xs_path_home(char out[XS_HOME_SIZE], unsigned domid)
{
	snprintf(out, XS_HOME_SIZE, HOMES "%u", domid);
}

bool xs_path_name_valid(const char *name)
{
	return *name && !name[strspn(name, NAME_CHARS)];
}

/* Return: the length of /local/domain/<number>/ at the front of the path, 0 if it is elsewhere. */
static size_t home_prefix_len(const char *path)
{
	size_t len = strlen(HOMES);
	size_t digits;

	if (strncmp(path, HOMES, len))
		return 0;
	digits = strspn(path + len, "0123456789");
	return digits && digits <= 5 && path[len + digits] == '/' ? len + digits + 1 : 0;
}

bool xs_path_valid(const char *path, bool special)
{
	size_t len = strlen(path);
	size_t home_len = home_prefix_len(path);

	if (*path != '/' && !(special && *path == '@'))
		return false;
	if (path[strspn(path, NAME_CHARS "/")] || strstr(path, "//"))
		return false;
	if (len > 1 && path[len - 1] == '/')
		return false;
	return len - home_len <= (home_len ? XENSTORE_REL_PATH_MAX : XENSTORE_ABS_PATH_MAX);
}

int xs_path_resolve(char out[XS_PATH_SIZE], const char *home, const char *path, bool special)
{
	bool relative = *path != '/' && *path != '@';
	size_t home_len = relative ? strlen(home) + 1 : 0;

	if (!*path || home_len + strlen(path) >= XS_PATH_SIZE)
		return -EINVAL;
	if (relative)
		sprintf(out, "%s/%s", home, path);
	else
		strcpy(out, path);
	return xs_path_valid(out, special) ? 0 : -EINVAL;
}

size_t xs_path_parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash > path ? (size_t)(slash - path) : 1;
}

void xs_path_parent(char out[XS_PATH_SIZE], const char *path)
{
	size_t len = xs_path_parent_len(path);

	memcpy(out, path, len);
	out[len] = '\0';
}

bool xs_path_below(const char *path, const char *top)
{
	size_t len = strlen(top);

	if (!strcmp(top, "/"))
		return *path == '/';
	return !strncmp(path, top, len) && (path[len] == '/' || !path[len]);
}

int xs_path_move(char out[XS_PATH_SIZE], const char *path, const char *from, const char *to)
{
	bool moves = xs_path_below(path, from);
	const char *rest = moves ? path + strlen(from) : path;
	int len = snprintf(out, XS_PATH_SIZE, "%s%s", moves ? to : "", rest);

	return len < (int)XS_PATH_SIZE ? 0 : -EINVAL;
}
