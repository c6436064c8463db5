/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Which loaded libraries are not the program's business, and which of them this code is in. */
#define _GNU_SOURCE
#include "omp-shim/libraries.h"

#include <stdint.h>
#include <string.h>

#include "common/cleanup.h"

static struct bounds {
	uintptr_t start, end;
} own, helpers[5];
static size_t helper_count;

/* True if the file's name begins so, and is a library's: "libc" is libc.so.6 and no libcrypto. */
static bool is_called(const char *path, const char *name)
{
	const char *file = strrchr(path, '/');
	size_t len = strlen(name);

	file = file ? file + 1 : path;
	return !strncmp(file, name, len) && (file[len] == '.' || file[len] == '-');
}

/* Return: true if `address` is in a segment of the object; its bounds are written to start and end. */
static bool holds(const struct dl_phdr_info *info, uintptr_t address, uintptr_t *start,
		  uintptr_t *end)
{
	*start = UINTPTR_MAX;
	*end = 0;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uintptr_t begin = info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type != PT_LOAD)
			continue;
		if (begin < *start)
			*start = begin;
		if (begin + segment->p_memsz > *end)
			*end = begin + segment->p_memsz;
	}
	return address >= *start && address < *end;
}

bool library_is_apart(const struct dl_phdr_info *info)
{
	static const char *const names[] = {
		"libc",	      "ld",	      "ld-linux-x86", "libpthread",  "libdl",
		"librt",      "libgomp",      "libsf",	      "libxenstore", "libcapstone",
		"libseccomp", "linux-vdso",
	};
	uintptr_t start, end;

	if (!info->dlpi_name || !*info->dlpi_name) /* the program */
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (is_called(info->dlpi_name, names[i]))
			return true;
	return holds(info, (uintptr_t)library_is_apart, &start, &end);
}

static int look(struct dl_phdr_info *info, size_t size, void *unused)
{
	/* what they allocate is for this library */
	static const char *const names[] = { "libsf", "libxenstore", "libxentoolcore", "libcapstone",
					     "libseccomp" };
	bool helps = false;
	uintptr_t start, end;

	(void)size;
	(void)unused;
	if (!info->dlpi_name || !*info->dlpi_name)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		helps |= is_called(info->dlpi_name, names[i]);
	if (holds(info, (uintptr_t)look, &start, &end))
		own = (struct bounds){ start, end };
	else if (helps && helper_count < ARRAY_SIZE(helpers))
		helpers[helper_count++] = (struct bounds){ start, end };
	return 0;
}

void library_find_own(void)
{
	if (!own.end)
		dl_iterate_phdr(look, NULL);
}

bool library_is_helper(const void *address)
{
	for (size_t i = 0; i < helper_count; i++) {
		if ((uintptr_t)address >= helpers[i].start && (uintptr_t)address < helpers[i].end)
			return true;
	}
	return false;
}

bool library_is_own(const void *address)
{
	return (uintptr_t)address >= own.start && (uintptr_t)address < own.end;
}
