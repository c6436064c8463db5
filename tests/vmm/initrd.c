/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes a cpio archive ("newc", Linux Documentation/driver-api/early-userspace/buffer-format). */
#define _GNU_SOURCE
#include "tests/vmm/initrd.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/io.h"

#define MAX_FILE_BYTES (256u << 20)

static const char *const module_names[] = {
	"virtio_ring.ko", "virtio.ko", "virtio_pci_modern_dev.ko", "virtio_pci_legacy_dev.ko",
	"virtio_pci.ko", "failover.ko", "net_failover.ko", "virtio_net.ko", "virtio_console.ko",
	"virtio-rng.ko",
};

/* nftw() has no argument of its own. */
static struct {
	char *path[ARRAY_SIZE(module_names)];
} found;

static void pad(FILE *out, size_t len)
{
	while (len++ % 4)
		fputc(0, out);
}

static void put_entry(FILE *out, const char *name, unsigned mode, const void *data, size_t len)
{
	static unsigned inode;
	size_t name_bytes = strlen(name) + 1;

	fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", ++inode, mode,
		0, 0, 1, 0, (unsigned)len, 0, 0, 0, 0, (unsigned)name_bytes, 0);
	fwrite(name, 1, name_bytes, out);
	pad(out, 110 + name_bytes);
	fwrite(data, 1, len, out);
	pad(out, len);
}

static int put_file(FILE *out, const char *name, const char *from)
{
	_cleanup_free_ char *data = NULL;
	size_t len;

	if (io_read_file(from, MAX_FILE_BYTES, &data, &len))
		return -1;
	put_entry(out, name, S_IFREG | 0755, data, len);
	return 0;
}

static int note_module(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	for (size_t i = 0; type == FTW_F && i < ARRAY_SIZE(module_names); i++) {
		if (!strcmp(path + at->base, module_names[i]) && !found.path[i])
			found.path[i] = strdup(path);
	}
	return 0;
}

static int put_modules(FILE *out, const char *folder)
{
	char name[64];

	nftw(folder, note_module, 16, FTW_PHYS);
	for (size_t i = 0; i < ARRAY_SIZE(module_names); i++) {
		snprintf(name, sizeof(name), "vmm-test/%s", module_names[i]);
		if (!found.path[i] || put_file(out, name, found.path[i])) {
			fprintf(stderr, "%s has no module %s\n", folder, module_names[i]);
			return -1;
		}
		free(found.path[i]);
		found.path[i] = NULL;
	}
	return 0;
}

static int put_base(FILE *out, const char *path)
{
	_cleanup_free_ char *data = NULL;
	size_t len;

	if (io_read_file(path, MAX_FILE_BYTES, &data, &len))
		return -1;
	return fwrite(data, 1, len, out) == len ? 0 : -1;
}

int initrd_make(const char *path, const char *script, const char *modules, const char *base)
{
	static const char *const folders[] = { "dev", "proc", "sys", "vmm-test" };
	FILE *out = fopen(path, "we");
	int ret;

	if (!out)
		return 1;
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		put_entry(out, folders[i], S_IFDIR | 0755, "", 0);
	put_entry(out, INITRD_INIT + 1, S_IFREG | 0755, script, strlen(script));
	if (put_file(out, "vmm-test/busybox", "/bin/busybox")) {
		fprintf(stderr, "/bin/busybox is missing: install the package busybox-static\n");
		fclose(out);
		return 77;
	}
	ret = modules ? put_modules(out, modules) : 0;
	put_entry(out, "TRAILER!!!", 0, "", 0);
	if (!ret && base)
		ret = put_base(out, base);
	return fclose(out) || ret ? 1 : 0;
}
