/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Gathers what a new QEMU needs as descriptors, and starts it with them.
 *
 * QEMU's user may open none of it by name. Two things it opens all the same, as /proc/self/fd/N:
 * its RAM, a memfd, which anybody may open who has it; and kernel and initrd, which are copied into
 * a memfd if their mode keeps strangers out.
 */
#define _GNU_SOURCE
#include "host/vmm/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/vmm/command.h"
#include "host/vmm/spawn.h"
#include "proto/uffd.h"

#define DEFAULT_QEMU "qemu-system-x86_64"
#define MAX_CPUS 64
#define MIB (1ull << 20)
#define PAGE_BYTES 4096u
#define OOM_SCORE_BOOT 300
#define OOM_SCORE_CLONE 800	/* a clone goes before its parent */

/* Under construction: our ends, QEMU's ends, and a place for the sentence about a failure. */
struct build {
	const struct vmm_config *config;
	struct launched ours;
	int fds[QEMU_FD_END];	/* by QEMU's number */
	bool lent[QEMU_FD_END];	/* the caller's, not ours to close */
	char program[PATH_MAX];
	char *why;
	size_t why_bytes;
};

/* Return: -error, with the sentence noted. */
static int fail(struct build *b, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static int fail(struct build *b, int error, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(b->why, b->why_bytes, format, ap);
	va_end(ap);
	return -error;
}

static int check_config(struct build *b)
{
	const struct vmm_config *c = b->config;
	struct stat st;

	if (!c->ram_bytes || c->ram_bytes % MIB)
		return fail(b, EINVAL, "%" PRIu64 " bytes of RAM are not a multiple of 1 MiB",
			    c->ram_bytes);
	if (!c->cpus || c->cpus > MAX_CPUS)
		return fail(b, EINVAL, "a VM has 1 to %d CPUs, not %u", MAX_CPUS, c->cpus);
	if (c->accel != VMM_ACCEL_KVM && c->accel != VMM_ACCEL_TCG)
		return fail(b, EINVAL, "the accelerator was not chosen yet");
	if (!c->shim || (!c->clone && !c->kernel && !c->disk_count))
		return fail(b, EINVAL, "the shim, or the kernel of a VM without a disk, was not named");
	if (c->disk_count > VMM_MAX_DISKS)
		return fail(b, EINVAL, "a VM has up to %u disks, not %u", VMM_MAX_DISKS,
			    c->disk_count);
	if (fstat(c->ram_fd, &st) || (uint64_t)st.st_size != c->ram_bytes)
		return fail(b, EINVAL, "the file for the RAM is not %" PRIu64 " bytes long",
			    c->ram_bytes);
	return 0;
}

static int check_window(struct build *b)
{
	const struct vmm_config *c = b->config;
	struct stat st;

	if (c->window_fd < 0)
		return 0;
	if (!c->clone || !c->window_bytes || c->window_bytes % PAGE_BYTES ||
	    c->window_offset % PAGE_BYTES || c->window_offset > c->ram_bytes ||
	    c->window_bytes > c->ram_bytes - c->window_offset)
		return fail(b, EINVAL, "a window of %" PRIu64 " bytes at %" PRIu64
			    " does not fit the RAM", c->window_bytes, c->window_offset);
	if (fstat(c->window_fd, &st) || (uint64_t)st.st_size < c->window_bytes)
		return fail(b, EINVAL, "the file for the window is shorter than %" PRIu64 " bytes",
			    c->window_bytes);
	return 0;
}

static int find_program(struct build *b)
{
	const char *name = b->config->qemu ? b->config->qemu : DEFAULT_QEMU;
	const char *at = strchr(name, '/') ? "" : getenv("PATH");

	while (at) {
		size_t len = strcspn(at, ":");

		snprintf(b->program, sizeof(b->program), "%.*s%s%s", (int)len, at, len ? "/" : "",
			 name);
		if (!access(b->program, X_OK))
			return 0;
		at = at[len] ? at + len + 1 : NULL;
	}
	return fail(b, ENOENT, "the program %s was not found: install the package qemu-system-x86",
		    name);
}

/* Copies `len` bytes of a file into a memfd. Return: the memfd, or -1 and errno. */
static int copy_to_memfd(int from, off_t len)
{
	_cleanup_fd_ int to = memfd_create("copy", MFD_CLOEXEC);

	while (to >= 0 && len > 0) {
		ssize_t put = sendfile(to, from, NULL, (size_t)len);

		if (put <= 0) {
			errno = put ? errno : EIO;
			return -1;
		}
		len -= put;
	}
	return steal_fd(&to);
}

/* Opens a regular file so that QEMU's user can open it again. Return: 0 or -errno. */
static int open_for_all(struct build *b, const char *path, enum qemu_fd number)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return fail(b, errno, "cannot open %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return fail(b, EINVAL, "%s is not a regular file", path);
	b->fds[number] = st.st_mode & S_IROTH ? steal_fd(&fd) : copy_to_memfd(fd, st.st_size);
	if (b->fds[number] < 0)
		return fail(b, errno, "cannot copy %s: %s", path, strerror(errno));
	return 0;
}

static int open_files(struct build *b)
{
	const struct vmm_config *c = b->config;
	int ret = open_for_all(b, c->shim, QEMU_FD_SHIM);

	if (!ret && !c->clone && c->kernel)
		ret = open_for_all(b, c->kernel, QEMU_FD_KERNEL);
	if (!ret && !c->clone && c->initrd)
		ret = open_for_all(b, c->initrd, QEMU_FD_INITRD);
	if (ret)
		return ret;
	b->fds[STDIN_FILENO] = open("/dev/null", O_RDWR | O_CLOEXEC);
	b->fds[QEMU_FD_USERFAULT] = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (b->fds[STDIN_FILENO] < 0 || b->fds[QEMU_FD_USERFAULT] < 0)
		return fail(b, errno, "cannot open %s: %s", b->fds[STDIN_FILENO] < 0 ?
			    "/dev/null" : "/dev/userfaultfd", strerror(errno));
	return 0;
}

static int make_connections(struct build *b)
{
	int console[2], qmp[2], handover[2], doorbell[2];

	if (pipe2(console, O_CLOEXEC))
		return fail(b, errno, "cannot make a pipe: %s", strerror(errno));
	b->ours.console = console[0];
	b->fds[STDOUT_FILENO] = console[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp))
		return fail(b, errno, "cannot make a socket: %s", strerror(errno));
	b->ours.qmp = qmp[0];
	b->fds[QEMU_FD_QMP] = qmp[1];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, handover))
		return fail(b, errno, "cannot make a socket: %s", strerror(errno));
	b->ours.handover = handover[0];
	b->fds[QEMU_FD_HANDOVER] = handover[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, doorbell))
		return fail(b, errno, "cannot make a socket: %s", strerror(errno));
	b->ours.doorbell = doorbell[0];
	b->fds[QEMU_FD_DOORBELL] = doorbell[1];
	return 0;
}

static void lend(struct build *b, enum qemu_fd number, int fd)
{
	b->fds[number] = fd;
	b->lent[number] = true;
}

/* What the shim finds its way by (proto/uffd.h). */
static void tell_shim(const struct vmm_config *c, char *text, size_t text_bytes)
{
	int len = snprintf(text, text_bytes, UFFD_ENV "=%d,%d,%d", QEMU_FD_HANDOVER,
			   QEMU_FD_USERFAULT, QEMU_FD_RAM);

	if (c->window_fd >= 0)
		snprintf(text + len, text_bytes - (size_t)len, ",%d,%" PRIu64 ",%" PRIu64,
			 QEMU_FD_WINDOW, c->window_offset, c->window_bytes);
}

static int run(struct build *b)
{
	const struct vmm_config *c = b->config;
	char *argv[COMMAND_MAX_ARGS], preload[48], shim[96];
	char *envp[] = { preload, shim, (char *)c->marks[0], (char *)c->marks[1], NULL };
	struct spawn spawn = { .path = b->program, .argv = argv, .envp = envp, .fds = b->fds,
			       .fd_count = QEMU_FD_END, .uid = c->uid,
			       .kvm = c->accel == VMM_ACCEL_KVM,
			       .oom_score_adj = c->clone ? OOM_SCORE_CLONE : OOM_SCORE_BOOT };
	int ret = command_build(c, b->program, argv);

	if (ret < 0)
		return fail(b, -ret, "cannot make QEMU's command line: %s", strerror(-ret));
	snprintf(preload, sizeof(preload), "LD_PRELOAD=/proc/self/fd/%d", QEMU_FD_SHIM);
	tell_shim(c, shim, sizeof(shim));
	ret = spawn_process(&spawn, &b->ours.pid, &b->ours.pidfd);
	command_free(argv);
	return ret ? fail(b, -ret, "cannot start a process: %s", strerror(-ret)) : 0;
}

static int build(struct build *b)
{
	const struct vmm_config *c = b->config;
	int ret = check_config(b);

	if (!ret)
		ret = check_window(b);
	if (!ret)
		ret = find_program(b);
	if (!ret)
		ret = open_files(b);
	if (!ret)
		ret = make_connections(b);
	if (ret)
		return ret;
	lend(b, STDERR_FILENO, b->fds[STDOUT_FILENO]);
	lend(b, QEMU_FD_CONSOLE, b->fds[STDOUT_FILENO]);
	lend(b, QEMU_FD_RAM, c->ram_fd);
	lend(b, QEMU_FD_XENSTORE, c->xenstore_fd);
	lend(b, QEMU_FD_AGENT, c->agent_fd);
	lend(b, QEMU_FD_TAP, c->tap_fd);
	lend(b, QEMU_FD_WINDOW, c->window_fd);
	for (unsigned i = 0; i < c->disk_count; i++)
		lend(b, QEMU_FD_DISK + i, c->disk_fds[i]);
	return run(b);
}

int launch(const struct vmm_config *config, struct launched *qemu, char *why, size_t why_bytes)
{
	struct build b = { .config = config, .why = why, .why_bytes = why_bytes,
			   .ours = { .pidfd = -1, .console = -1, .qmp = -1, .handover = -1,
				     .doorbell = -1 } };
	int ret;

	for (int i = 0; i < QEMU_FD_END; i++)
		b.fds[i] = -1;
	ret = build(&b);
	for (int i = 0; i < QEMU_FD_END; i++) {
		if (!b.lent[i])
			cleanup_close(&b.fds[i]);
	}
	if (ret)
		launch_fini(&b.ours);
	else
		*qemu = b.ours;
	return ret;
}

void launch_fini(struct launched *qemu)
{
	cleanup_close(&qemu->pidfd);
	cleanup_close(&qemu->console);
	cleanup_close(&qemu->qmp);
	cleanup_close(&qemu->handover);
	cleanup_close(&qemu->doorbell);
}
