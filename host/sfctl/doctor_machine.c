/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl doctor: what the kernel and the machine have. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfctl/doctor.h"
#include "host/sfctl/memory.h"
#include "host/sfctl/text.h"

#define KERNEL_MAJOR 5 /* write-protect for shmem came with 5.19 */
#define KERNEL_MINOR 19
#define MEMORY_LITTLE (1ull << 30)
#define MEMORY_LEAST (256ull << 20)
#define TEST_BYTES (16u << 10)

void doctor_kernel(struct doctor_result *result)
{
	struct utsname name;
	int major = 0, minor = 0;

	uname(&name);
	sscanf(name.release, "%d.%d", &major, &minor);
	if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR)) {
		doctor_found(result, DOCTOR_OK, "Linux %s", name.release);
		return;
	}
	doctor_found(result, DOCTOR_MISSING, "Linux %s", name.release);
	doctor_advise(result, "Linux %d.%d or newer; Debian 12 has 6.1", KERNEL_MAJOR,
		      KERNEL_MINOR);
}

/* The capabilities that a daemon uses. */
static const struct {
	unsigned number;
	const char *name;
} needed[] = {
	{ CAP_CHOWN, "CHOWN" },		{ CAP_DAC_OVERRIDE, "DAC_OVERRIDE" },
	{ CAP_KILL, "KILL" },		{ CAP_SETUID, "SETUID" },
	{ CAP_SETGID, "SETGID" },	{ CAP_NET_ADMIN, "NET_ADMIN" },
	{ CAP_SYS_ADMIN, "SYS_ADMIN" },
};

void doctor_rights(struct doctor_result *result)
{
	_cleanup_free_ char *status = NULL;
	char missing[128] = "";
	const char *line;
	uint64_t effective = 0;
	size_t len;

	if (!io_read_file("/proc/self/status", 65536, &status, &len) &&
	    (line = strstr(status, "CapEff:")))
		effective = strtoull(line + strlen("CapEff:"), NULL, 16);
	for (unsigned i = 0; i < ARRAY_SIZE(needed); i++) {
		if (effective & 1ull << needed[i].number)
			continue;
		snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing), " %s",
			 needed[i].name);
	}
	if (!*missing && !geteuid()) {
		doctor_found(result, DOCTOR_OK, "root, with all capabilities needed");
		return;
	}
	doctor_found(result, DOCTOR_MISSING, geteuid() ? "not root" : "root without%s", missing);
	doctor_advise(result,
		      geteuid() ? "run sfctl as root" : "in a container: run it privileged");
}

void doctor_memory(struct doctor_result *result)
{
	uint64_t available = memory_available();
	char text[TEXT_BYTES];

	if (available >= MEMORY_LITTLE) {
		doctor_found(result, DOCTOR_OK, "%s available", size_text(available, text));
		return;
	}
	doctor_found(result, available >= MEMORY_LEAST ? DOCTOR_LESS : DOCTOR_MISSING,
		     "%s available", size_text(available, text));
	doctor_advise(result,
		      "a VM with clones wants a gigabyte or more: end other programs, or raise the "
		      "control group's memory.max");
}

/* A userfaultfd, from the device or the system call. Return: it, or -errno. */
static int open_userfaultfd(const char **way)
{
	_cleanup_fd_ int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd;

	if (device >= 0) {
		*way = "/dev/userfaultfd";
		fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	} else {
		*way = "the system call";
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	}
	return fd < 0 ? -errno : fd;
}

/* Registers shared memory for missing pages and write-protection, and protects it. Return: 0 or
 * -errno. */
static int try_write_protect(int uffd, void *memory, size_t bytes)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)memory, .len = bytes },
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = { .range = reg.range,
					       .mode = UFFDIO_WRITEPROTECT_MODE_WP };

	return ioctl(uffd, UFFDIO_REGISTER, &reg) || ioctl(uffd, UFFDIO_WRITEPROTECT, &protect) ?
		       -errno :
		       0;
}

/* Return: 0 or -errno; *step says what was tried last. */
static int try_userfaultfd(int uffd, const char **step)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_PAGEFAULT_FLAG_WP |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	_cleanup_fd_ int memory = memfd_create("sfctl-doctor", MFD_CLOEXEC);
	void *map;
	int error;

	*step = "missing pages and write-protection of shared memory";
	if (ioctl(uffd, UFFDIO_API, &api))
		return -errno;
	*step = "shared memory";
	if (memory < 0 || ftruncate(memory, TEST_BYTES))
		return -errno;
	map = mmap(NULL, TEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (map == MAP_FAILED)
		return -errno;
	*step = "write-protecting shared memory";
	error = try_write_protect(uffd, map, TEST_BYTES);
	munmap(map, TEST_BYTES);
	return error;
}

void doctor_userfaultfd(struct doctor_result *result)
{
	const char *way, *step;
	_cleanup_fd_ int uffd = open_userfaultfd(&way);
	int error;

	if (uffd < 0) {
		doctor_found(result, DOCTOR_MISSING, "none: %s", strerror(-uffd));
		doctor_advise(result, "a kernel with CONFIG_USERFAULTFD, and root or "
				      "sysctl vm.unprivileged_userfaultfd=1");
		return;
	}
	error = try_userfaultfd(uffd, &step);
	if (!error) {
		doctor_found(result, DOCTOR_OK, "write-protects shared memory (by %s)", way);
		return;
	}
	doctor_found(result, DOCTOR_MISSING, "no %s: %s", step, strerror(-error));
	doctor_advise(result, "Linux %d.%d or newer, with CONFIG_PTE_MARKER_UFFD_WP", KERNEL_MAJOR,
		      KERNEL_MINOR);
}
