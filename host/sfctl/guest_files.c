/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads the names in an initial RAM disk: cpio's "newc" format, as the kernel takes it. */
#include "host/sfctl/guest_files.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"

#define MANIFEST_MAX (16u << 20)
#define CPIO_HEADER_BYTES 110
#define CPIO_MAGIC "07070" /* then 1, or 2 with checksums */
#define CPIO_SIZE_AT 54	   /* fields of eight hexadecimal digits */
#define CPIO_NAME_SIZE_AT 94
#define CPIO_ALIGN 4

struct guest_files {
	json_t *paths; /* a set */
};

void guest_path(const char *path, char canonical[PATH_MAX])
{
	const char *in_usr;

	path += *path == '.';
	path += *path == '/';
	in_usr = !strncmp(path, "lib/", 4) || !strncmp(path, "lib64/", 6) ? "usr/" : "";
	snprintf(canonical, PATH_MAX, "/%s%s", in_usr, path);
}

static void add(struct guest_files *files, const char *path)
{
	char name[PATH_MAX];

	guest_path(path, name);
	json_object_set_new(files->paths, name, json_true());
}

static uint64_t hex_field(const char *header, size_t at)
{
	char digits[9] = "";

	memcpy(digits, header + at, 8);
	return strtoull(digits, NULL, 16);
}

static off_t aligned(off_t at)
{
	return (at + CPIO_ALIGN - 1) / CPIO_ALIGN * CPIO_ALIGN;
}

/* Reads the entry at *at and moves behind it. Return: false at the end, or where it is none. */
static bool take_entry(struct guest_files *files, int fd, off_t *at)
{
	char header[CPIO_HEADER_BYTES], name[PATH_MAX];
	uint64_t size, name_size;

	if (pread(fd, header, sizeof(header), *at) != sizeof(header) ||
	    memcmp(header, CPIO_MAGIC, strlen(CPIO_MAGIC)))
		return false;
	size = hex_field(header, CPIO_SIZE_AT);
	name_size = hex_field(header, CPIO_NAME_SIZE_AT);
	if (!name_size || name_size > sizeof(name) ||
	    pread(fd, name, name_size, *at + CPIO_HEADER_BYTES) != (ssize_t)name_size ||
	    name[name_size - 1])
		return false;
	add(files, name);
	*at = aligned(aligned(*at + CPIO_HEADER_BYTES + (off_t)name_size) + (off_t)size);
	return strcmp(name, "TRAILER!!!") != 0;
}

static void read_cpio(struct guest_files *files, const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0;

	while (fd >= 0 && take_entry(files, fd, &at))
		;
}

static void read_manifest(struct guest_files *files, const char *path)
{
	_cleanup_free_ char *text = NULL;
	char *line, *save;
	size_t len;

	if (io_read_file(path, MANIFEST_MAX, &text, &len))
		return;
	for (line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		add(files, line);
}

struct guest_files *guest_files_read(const char *dir, const char *initrd)
{
	struct guest_files *files = calloc(1, sizeof(*files));
	char path[PATH_MAX];

	if (!files)
		return NULL;
	files->paths = json_object();
	snprintf(path, sizeof(path), "%s/initrd.img", dir);
	read_cpio(files, initrd ? initrd : path);
	snprintf(path, sizeof(path), "%s/manifest", dir);
	if (!json_object_size(files->paths) && !initrd)
		read_manifest(files, path);
	if (json_object_size(files->paths))
		return files;
	guest_files_free(files);
	return NULL;
}

void guest_files_free(struct guest_files *files)
{
	if (!files)
		return;
	json_decref(files->paths);
	free(files);
}

bool guest_files_have(const struct guest_files *files, const char *path)
{
	return json_object_get(files->paths, path) != NULL;
}
