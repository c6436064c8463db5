/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preloaded into QEMU: hands a userfaultfd over the guest RAM to whoever started QEMU.
 *
 * A userfaultfd serves the address space that made it, and stock QEMU makes none for its own RAM.
 * So this file stands in front of mmap(): everything passes through untouched until the file being
 * mapped is the guest-RAM file (same device, same inode); then the handshake of proto/uffd.h takes
 * place, and mmap() returns only when the pages are in somebody's care. The userfaultfd stays open
 * in QEMU: closed, it would turn missing pages into silent zeros. A clone's window is laid over the
 * RAM before anybody hears of it.
 *
 * While it is there, it also has TCG's memory ready in time: see mprotect().
 *
 * Runs before and inside a program it knows nothing about: it calls the kernel for the real mmap()
 * (no symbol lookup that could need memory, and so mmap(), itself), and allocates nothing.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "proto/uffd.h"

#define CODE_BYTES (8u << 20)	/* of translated code in a clone's first moments */
#define EXPORT __attribute__((visibility("default")))

/* What the environment told: descriptors, and the guest-RAM file to know it again. */
static struct {
	bool armed;
	bool done;
	int sock;
	int device;
	int ram;
	dev_t ram_dev;
	ino_t ram_ino;
	int window;	/* -1: none */
	uint64_t window_offset;
	uint64_t window_bytes;
} shim;

/* QEMU must not go on with RAM that nobody serves. */
static _Noreturn void die(const char *what)
{
	static const char prefix[] = "uffd shim: ";
	ssize_t ignored;

	ignored = write(STDERR_FILENO, prefix, sizeof(prefix) - 1);
	ignored = write(STDERR_FILENO, what, strlen(what));
	ignored = write(STDERR_FILENO, "\n", 1);
	(void)ignored;
	_exit(EXIT_FAILURE);
}

/* Return: true if the text is "SOCK,DEV,RAM" or "SOCK,DEV,RAM,WINDOW,OFFSET,BYTES". */
static bool parse_env(const char *env)
{
	int end = -1;

	shim.window = -1;
	if (sscanf(env, "%d,%d,%d%n", &shim.sock, &shim.device, &shim.ram, &end) != 3)
		return false;
	if (!env[end])
		return true;
	env += end;
	end = -1;
	return sscanf(env, ",%d,%" SCNu64 ",%" SCNu64 "%n", &shim.window, &shim.window_offset,
		      &shim.window_bytes, &end) == 3 && !env[end] && shim.window >= 0;
}

/* Before main(): reads UFFD_ENV, and takes it and LD_PRELOAD out of the environment. */
__attribute__((constructor)) static void arm(void)
{
	const char *env = getenv(UFFD_ENV);
	struct stat st;

	if (!env)
		return;
	if (!parse_env(env))
		die("the environment variable " UFFD_ENV " is malformed");
	if (fstat(shim.ram, &st))
		die("the guest RAM was not handed in");
	shim.ram_dev = st.st_dev;
	shim.ram_ino = st.st_ino;
	shim.armed = true;
	unsetenv(UFFD_ENV);
	unsetenv("LD_PRELOAD");
}

static bool is_guest_ram(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_dev == shim.ram_dev && st.st_ino == shim.ram_ino;
}

static void send_handover(int uffd, const struct uffd_handover *message)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)message, .iov_len = sizeof(*message) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
			      .msg_controllen = sizeof(control.bytes) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &uffd, sizeof(int));
	if (TEMP_FAILURE_RETRY(sendmsg(shim.sock, &msg, MSG_NOSIGNAL)) != sizeof(*message))
		die("the guest RAM could not be handed over");
}

/* Lays the window over the RAM. A memfd too short would end QEMU when it is touched. */
static void map_window(char *base, size_t length_bytes)
{
	struct stat st;

	if (shim.window_offset > length_bytes || !shim.window_bytes ||
	    shim.window_bytes > length_bytes - shim.window_offset ||
	    shim.window_offset % 4096 || shim.window_bytes % 4096)
		die("the window lies outside the guest RAM");
	if (fstat(shim.window, &st) || (uint64_t)st.st_size < shim.window_bytes)
		die("the window is shorter than it was said to be");
	if ((void *)syscall(SYS_mmap, base + shim.window_offset, shim.window_bytes,
			    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, shim.window, 0) ==
	    MAP_FAILED)
		die("the window could not be mapped");
	close(shim.window);
}

/* The handshake of proto/uffd.h over the mapping at `base`; does not return if it fails. */
static void hand_over(void *base, size_t length_bytes)
{
	const struct uffd_handover message = {
		.magic = UFFD_MAGIC,
		.page_bytes = 4096,
		.base = (uintptr_t)base,
		.length_bytes = length_bytes,
	};
	char answer = 0;
	int uffd;

	if (shim.done)
		die("the guest RAM was mapped twice");
	shim.done = true;
	if (shim.window >= 0)
		map_window(base, length_bytes);
	uffd = ioctl(shim.device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0)
		die("the kernel gave no userfaultfd");
	send_handover(uffd, &message);
	if (TEMP_FAILURE_RETRY(read(shim.sock, &answer, 1)) != 1 || answer != UFFD_ACK)
		die("nobody takes care of the guest RAM");
	close(shim.sock);
	close(shim.device);
	close(shim.ram);
}

EXPORT void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
	void *base = (void *)syscall(SYS_mmap, addr, length, prot, flags, fd, offset);

	if (base != MAP_FAILED && shim.armed && fd >= 0 && is_guest_ram(fd))
		hand_over(base, length);
	return base;
}

/*
 * The only memory that QEMU ever makes writable and executable is what TCG translates into. A clone
 * fills some MB of it in its first moments; the kernel had better clear them while it still waits.
 */
EXPORT int mprotect(void *addr, size_t length, int prot)
{
	long ret = syscall(SYS_mprotect, addr, length, prot);

	if (!ret && shim.armed && (prot & PROT_WRITE) && (prot & PROT_EXEC))
		syscall(SYS_madvise, addr, length < CODE_BYTES ? length : CODE_BYTES,
			MADV_POPULATE_WRITE);
	return (int)ret;
}

EXPORT void *mmap64(void *addr, size_t length, int prot, int flags, int fd, off64_t offset)
{
	return mmap(addr, length, prot, flags, fd, offset);
}
