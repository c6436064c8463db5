/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * sfctl run --put: the shared libraries that programs need.
 *
 * The dynamic loader says which files a program would have here (as for ldd; nothing of the program
 * runs). What the guest image has is left alone: a library there is replaced neither while programs
 * use it nor by another version. All others go where they are here, and LD_LIBRARY_PATH names their
 * folder where the guest's loader would not look. A guest whose files are not known is taken to
 * have all that lies in the usual folders.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfctl/capture.h"
#include "host/sfctl/guest_files.h"
#include "host/sfctl/run.h"
#include "host/sfctl/text.h"

#define LOADER "/lib64/ld-linux-x86-64.so.2"
#define LISTING_MAX (256u << 10)
#define MAX_SEGMENTS 128

/* Where the guest's loader looks by itself, with /lib being /usr/lib. */
static const char *const usual_folders[] = { "/usr/lib/x86_64-linux-gnu", "/usr/lib",
					     "/usr/lib64" };

/* Where the image has libsf, and its loader's cache says so. Nothing that is put here is in it. */
#define IMAGE_FOLDER "/usr/local/lib"

static bool is_usual(const char *folder)
{
	for (unsigned i = 0; i < ARRAY_SIZE(usual_folders); i++) {
		if (!strcmp(usual_folders[i], folder))
			return true;
	}
	return false;
}

/* True if the guest has this library, where it is here or where its loader looks. */
static bool guest_has(const struct guest_files *guest, const char *path)
{
	char name[PATH_MAX], usual[PATH_MAX + 64];
	char *slash;

	guest_path(path, name);
	slash = strrchr(name, '/');
	if (!guest) {
		*slash = 0;
		return is_usual(name);
	}
	if (guest_files_have(guest, name))
		return true;
	for (unsigned i = 0; i < ARRAY_SIZE(usual_folders); i++) {
		snprintf(usual, sizeof(usual), "%s%s", usual_folders[i], slash);
		if (guest_files_have(guest, usual))
			return true;
	}
	snprintf(usual, sizeof(usual), IMAGE_FOLDER "%s", slash);
	return guest_files_have(guest, usual);
}

/* Is it a dynamically linked program of this machine? A library that is put is not asked. */
static bool wants_loader(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr head;

	if (fd < 0 || pread(fd, &head, sizeof(head), 0) != sizeof(head) ||
	    memcmp(head.e_ident, ELFMAG, SELFMAG) || head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    head.e_machine != EM_X86_64 || head.e_phentsize != sizeof(Elf64_Phdr))
		return false;
	for (unsigned i = 0; i < head.e_phnum && i < MAX_SEGMENTS; i++) {
		Elf64_Phdr segment;
		off_t at = (off_t)(head.e_phoff + i * sizeof(segment));

		if (pread(fd, &segment, sizeof(segment), at) != sizeof(segment))
			return false;
		if (segment.p_type == PT_INTERP)
			return true;
	}
	return false;
}

static bool is_put(const struct put_list *list, const char *path)
{
	for (unsigned i = 0; i < list->count; i++) {
		if (!strcmp(list->files[i].to, path))
			return true;
	}
	return false;
}

/* Names the folder of a library to the guest's loader. Return: 0 or -ENOMEM. */
static int add_folder(struct put_list *list, const char *library)
{
	char folder[PATH_MAX], *path = NULL;

	guest_path(library, folder);
	*strrchr(folder, '/') = 0;
	if (is_usual(folder))
		return 0;
	for (const char *at = list->library_path; at;
	     at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
		if (!strncmp(at, folder, strlen(folder)) && strchr(":", at[strlen(folder)]))
			return 0;
	}
	if (asprintf(&path, "%s%s%s", list->library_path ? list->library_path : "",
		     list->library_path ? ":" : "", folder) < 0)
		return -ENOMEM;
	free(list->library_path);
	list->library_path = path;
	return 0;
}

/* One library of a program: its name, and where it is here (NULL: nowhere). Return: 0 or -errno. */
static int add_library(struct put_list *list, const struct guest_files *guest, const char *program,
		       const char *name, const char *path)
{
	_cleanup_free_ char *copy = path ? strdup(path) : NULL, *folder = NULL;
	char place[PATH_MAX];
	struct stat st;
	int error;

	snprintf(place, sizeof(place), "%s/%s", usual_folders[0], name);
	if (!path && (guest_has(guest, place) || is_put(list, place)))
		return 0;
	if (!path || stat(path, &st)) {
		complain("%s needs the library %s, which is neither here nor in the guest", program,
			 name);
		return -ENOENT;
	}
	if (guest_has(guest, path) || is_put(list, path))
		return 0;
	folder = realpath(dirname(copy), NULL);
	if (!folder)
		return -errno;
	snprintf(place, sizeof(place), "%s/%s", folder, name);
	error = is_put(list, place) ? 0 : put_list_file(list, path, place, st.st_mode);
	return error ? error : add_folder(list, place);
}

/* Takes the lines "NAME => PATH (ADDRESS)" of the loader's listing. Return: 0 or -errno. */
static int add_listing(struct put_list *list, const struct guest_files *guest, const char *program,
		       char *listing)
{
	int error = 0;

	for (char *save, *line = strtok_r(listing, "\n", &save); line && !error;
	     line = strtok_r(NULL, "\n", &save)) {
		char *name = line + strspn(line, " \t"), *arrow = strstr(name, " => ");
		char *path = arrow ? arrow + 4 : NULL, *end = path ? strstr(path, " (0x") : NULL;

		if (!arrow) /* the loader itself, and what the kernel gives */
			continue;
		*arrow = 0;
		if (end)
			*end = 0;
		error = add_library(list, guest, program, name, *path == '/' ? path : NULL);
	}
	return error;
}

/* Adds what one program needs. Return: 0 or -errno. */
static int add_libraries_of(struct put_list *list, const struct guest_files *guest,
			    const char *program)
{
	const char *argv[] = { "env", "LD_TRACE_LOADED_OBJECTS=1", LOADER, program, NULL };
	_cleanup_free_ char *listing = NULL;
	int status = capture(argv, LISTING_MAX, &listing);

	if (status < 0) {
		complain("cannot find out which libraries %s needs: %s %s", program, LOADER,
			 strerror(-status));
		return status;
	}
	return add_listing(list, guest, program, listing);
}

int put_list_libraries(struct put_list *list, const char *guest_dir, const char *initrd)
{
	struct guest_files *guest = guest_files_read(guest_dir, initrd);
	unsigned given = list->count;
	int error = 0;

	for (unsigned i = 0; i < given && !error; i++) {
		_cleanup_free_ char *program = realpath(list->files[i].from, NULL);

		if (program && list->files[i].mode & 0111 && wants_loader(program))
			error = add_libraries_of(list, guest, program);
	}
	guest_files_free(guest);
	return error;
}
