/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sorted ranges of addresses, and those of this process that a region may change. */
#define _GNU_SOURCE
#include "omp-shim/ranges.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "omp-shim/libraries.h"
#include "omp-shim/own.h"

#define PAGE_BYTES 4096u

/* -- sets of ranges --------------------------------------------------------------------------- */

/* Return: how many ranges end before `address`. */
static size_t ranges_before(const struct ranges *ranges, uint64_t address)
{
	size_t low = 0, high = ranges->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (ranges->all[middle].end < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Makes room for `count` ranges. */
static int reserve(struct ranges *ranges, size_t count)
{
	size_t bytes = ranges->room * sizeof(struct range);
	struct range *grown;

	if (count <= ranges->room)
		return 0;
	grown = own_grow(ranges->all, &bytes, count * sizeof(struct range));
	if (!grown)
		return -ENOMEM;
	ranges->all = grown;
	ranges->room = bytes / sizeof(struct range);
	return 0;
}

/* Puts `count` ranges where those from `from` to before `to` are. */
static int replace(struct ranges *ranges, size_t from, size_t to, const struct range *with,
		   size_t count)
{
	if (reserve(ranges, ranges->count - (to - from) + count))
		return -ENOMEM;
	memmove(ranges->all + from + count, ranges->all + to,
		(ranges->count - to) * sizeof(struct range));
	memcpy(ranges->all + from, with, count * sizeof(struct range));
	ranges->count = ranges->count - (to - from) + count;
	return 0;
}

int ranges_add(struct ranges *ranges, uint64_t start, uint64_t end)
{
	size_t from = ranges_before(ranges, start), to = from;
	struct range one = { start, end };

	if (start >= end)
		return 0;
	for (; to < ranges->count && ranges->all[to].start <= end; to++) {
		if (ranges->all[to].start < one.start)
			one.start = ranges->all[to].start;
		if (ranges->all[to].end > one.end)
			one.end = ranges->all[to].end;
	}
	return replace(ranges, from, to, &one, 1);
}

int ranges_remove(struct ranges *ranges, uint64_t start, uint64_t end)
{
	size_t from = ranges_before(ranges, start), to, count = 0;
	struct range left[2];

	if (start >= end)
		return 0;
	if (from < ranges->count && ranges->all[from].end == start)
		from++;
	for (to = from; to < ranges->count && ranges->all[to].start < end; to++) {
		const struct range *range = &ranges->all[to];

		if (range->start < start)
			left[count++] = (struct range){ range->start, start };
		if (range->end > end)
			left[count++] = (struct range){ end, range->end };
	}
	return replace(ranges, from, to, left, count);
}

bool ranges_hold(const struct ranges *ranges, uint64_t start, uint64_t end)
{
	size_t at = ranges_before(ranges, end);

	return start < end && at < ranges->count && ranges->all[at].start <= start;
}

void ranges_fini(struct ranges *ranges)
{
	own_free(ranges->all);
	memset(ranges, 0, sizeof(*ranges));
}

/* -- this process ----------------------------------------------------------------------------- */

/* Reads all of a file of /proc in one go, so that it does not change meanwhile. */
static char *read_maps(void)
{
	char *text = NULL;
	size_t room = 0, len;
	ssize_t got;

	do {
		_cleanup_fd_ int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
		char *grown = own_grow(text, &room, room ? room + 1 : 1u << 16);

		if (fd < 0 || !grown) {
			own_free(text);
			errno = grown ? errno : ENOMEM;
			return NULL;
		}
		text = grown;
		for (len = 0; len + 1 < room; len += (size_t)got) {
			got = read(fd, text + len, room - 1 - len);
			if (got <= 0)
				break;
		}
	} while (len + 1 >= room);
	text[len] = 0;
	return text;
}

/* One line of maps. Return: 0; -ENOMEM; -ENOTSUP: it is shared and writable. */
static int add_mapping(struct ranges *ranges, const char *line, uint64_t *shared)
{
	char *at;
	uint64_t start = strtoull(line, &at, 16), end;

	if (*at != '-')
		return 0;
	end = strtoull(at + 1, &at, 16);
	if (strlen(at) < 5 || at[2] != 'w') /* " rw-p…" */
		return 0;
	if (at[4] != 's')
		return ranges_add(ranges, start, end);
	*shared = start;
	return -ENOTSUP;
}

static int remove_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	int rc = 0;

	(void)size;
	if (!library_is_apart(info))
		return 0;
	for (unsigned i = 0; !rc && i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + segment->p_vaddr;
		uint64_t end = start + segment->p_memsz;

		if (segment->p_type == PT_LOAD && segment->p_flags & PF_W)
			rc = ranges_remove(arg, start / PAGE_BYTES * PAGE_BYTES,
					   (end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
	}
	return rc;
}

/* There is room for it. */
static void remove_own(void *arg, uint64_t start, uint64_t end)
{
	ranges_remove(arg, start, end);
}

/*
 * The calling thread's static TLS and what the C library knows of it. Other threads' are where
 * their stacks are; the main thread's is anywhere. What of it counts is in ranges_of_tls().
 */
static int remove_tls(struct ranges *ranges)
{
	void (*info)(size_t *, size_t *);
	const uint32_t *thread_bytes = dlsym(RTLD_DEFAULT, "_thread_db_sizeof_pthread");
	uint64_t here = (uintptr_t)__builtin_thread_pointer();
	size_t bytes = 0, align = 0;

	*(void **)&info = dlsym(RTLD_DEFAULT, "_dl_get_tls_static_info");
	if (!info || !thread_bytes)
		return -ENOSYS;
	info(&bytes, &align);
	return ranges_remove(ranges, here + *thread_bytes - bytes, here + *thread_bytes);
}

int ranges_of_process(struct ranges *ranges, uint64_t *shared)
{
	char *text = read_maps(), *rest = text;
	int rc = text ? 0 : -errno;

	*shared = 0;
	while (!rc && rest && *rest) {
		char *line = strsep(&rest, "\n");

		rc = add_mapping(ranges, line, shared);
	}
	if (!rc)
		rc = dl_iterate_phdr(remove_library, ranges);
	if (!rc)
		rc = remove_tls(ranges);
	if (!rc) /* one more, should the room itself be new */
		rc = reserve(ranges, ranges->count + own_walk(NULL, NULL) + 1);
	if (!rc)
		own_walk(remove_own, ranges);
	/* the text is in the maps as well: it is one of these, until now */
	own_free(text);
	return rc;
}

static int add_tls(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t start;

	if (size < sizeof(*info) || !info->dlpi_tls_data || library_is_apart(info))
		return 0;
	start = (uintptr_t)info->dlpi_tls_data;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type == PT_TLS)
			return ranges_add(arg, start, start + info->dlpi_phdr[i].p_memsz);
	}
	return 0;
}

int ranges_of_tls(struct ranges *ranges)
{
	return dl_iterate_phdr(add_tls, ranges);
}
