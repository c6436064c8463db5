/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How much memory there is, by /proc/meminfo and the control group. */
#include "host/sfctl/memory.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

/* A number from a file of a control group. Return: UINT64_MAX if it says "max" or is not there. */
static uint64_t cgroup_number(const char *group, const char *name)
{
	char path[PATH_MAX];
	_cleanup_free_ char *text = NULL;
	size_t len;

	snprintf(path, sizeof(path), CGROUP_ROOT "%s/%s", group, name);
	if (io_read_file(path, 256, &text, &len) || *text < '0' || *text > '9')
		return UINT64_MAX;
	return strtoull(text, NULL, 10);
}

/* What the control group and those above it leave. */
static uint64_t cgroup_available(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t least = UINT64_MAX;
	char *group, *slash;
	size_t len;

	if (io_read_file("/proc/self/cgroup", 65536, &text, &len) ||
	    !(group = strstr(text, "0::/")))
		return UINT64_MAX;
	group += 3;
	group[strcspn(group, "\n")] = 0;
	do {
		uint64_t limit = cgroup_number(group, "memory.max");
		uint64_t used = cgroup_number(group, "memory.current");
		uint64_t left = limit == UINT64_MAX || used == UINT64_MAX ? UINT64_MAX :
				limit > used				  ? limit - used :
									    0;

		least = left < least ? left : least;
		slash = strrchr(group, '/');
		*slash = 0;
	} while (*group);
	return least;
}

uint64_t memory_available(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t machine, group;
	const char *line;
	size_t len;

	if (io_read_file("/proc/meminfo", 65536, &text, &len) ||
	    !(line = strstr(text, "MemAvailable:")))
		return 0;
	machine = strtoull(line + strlen("MemAvailable:"), NULL, 10) << 10;
	group = cgroup_available();
	return machine < group ? machine : group;
}
