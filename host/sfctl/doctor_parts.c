/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sfctl doctor: QEMU, the network, our own programs and the guest image. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "host/sfctl/capture.h"
#include "host/sfctl/doctor.h"
#include "host/sfctl/paths.h"
#include "host/vmm/vmm.h"
#include "host/vnet/vnet.h"

#define QEMU "qemu-system-x86_64"
#define QEMU_MAJOR 7
#define QEMU_MINOR 2

void doctor_qemu(struct doctor_result *result)
{
	static const char *const argv[] = { QEMU, "--version", NULL };
	_cleanup_free_ char *text = NULL;
	int major = 0, minor = 0, status = capture(argv, 4096, &text);

	if (status == 0 && sscanf(text, "QEMU emulator version %d.%d", &major, &minor) == 2 &&
	    (major > QEMU_MAJOR || (major == QEMU_MAJOR && minor >= QEMU_MINOR))) {
		doctor_found(result, DOCTOR_OK, QEMU " %d.%d", major, minor);
		return;
	}
	if (major)
		doctor_found(result, DOCTOR_MISSING, QEMU " %d.%d", major, minor);
	else
		doctor_found(result, DOCTOR_MISSING, QEMU ": %s",
			     status < 0 ? strerror(-status) : "does not tell its version");
	doctor_advise(result, "version %d.%d or newer: apt-get install qemu-system-x86", QEMU_MAJOR,
		      QEMU_MINOR);
}

void doctor_accel(struct doctor_result *result)
{
	enum vmm_accel accel;
	char why[DOCTOR_TEXT_BYTES] = "";

	if (vmm_probe_accel(VMM_ACCEL_AUTO, &accel, why, sizeof(why))) {
		doctor_found(result, DOCTOR_MISSING, "none: %.200s", why);
		return;
	}
	doctor_found(result, accel == VMM_ACCEL_KVM ? DOCTOR_OK : DOCTOR_LESS, "%s: %.200s",
		     vmm_accel_name(accel), why);
	if (accel != VMM_ACCEL_KVM)
		doctor_advise(result,
			      "it works, slowly; for KVM use a machine, or a VM with nested "
			      "virtualization, where /dev/kvm runs guests");
}

/* An address for the tunnel's end. */
static void loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	ioctl(fd, SIOCSIFFLAGS, &request);
}

/* Makes a segment with a port in a network namespace of its own. Return: 0, or -errno and `why`. */
static int try_network(char *why, size_t why_bytes)
{
	struct vnet_config config = { .vni = 1, .prefix = 16, .port = 4789 };
	struct vnet_segment *segment;
	int error, fd = -1;

	if (unshare(CLONE_NEWNET)) {
		snprintf(why, why_bytes, "cannot make a network namespace: %s", strerror(errno));
		return -errno;
	}
	loopback_up();
	inet_pton(AF_INET, "10.123.0.2", &config.base);
	inet_pton(AF_INET, "10.123.0.1", &config.gateway);
	inet_pton(AF_INET, "127.0.0.1", &config.underlay);
	error = vnet_segment_create(&config, &segment, why, why_bytes);
	if (error)
		return error;
	error = vnet_port_open(segment, 1, &fd, why, why_bytes);
	if (!error)
		close(fd);
	vnet_segment_destroy(segment);
	return error;
}

void doctor_network(struct doctor_result *result)
{
	char why[DOCTOR_TEXT_BYTES] = "";
	ssize_t got = 0;
	int pipe_fds[2];
	pid_t pid;

	if (pipe2(pipe_fds, O_CLOEXEC) || (pid = fork()) < 0) {
		doctor_found(result, DOCTOR_MISSING, "cannot try: %s", strerror(errno));
		return;
	}
	if (!pid) {
		bool failed = try_network(why, sizeof(why));

		if (failed)
			io_write_full(pipe_fds[1], *why ? why : "?", *why ? strlen(why) : 1);
		_exit(failed);
	}
	close(pipe_fds[1]);
	got = read(pipe_fds[0], why, sizeof(why) - 1);
	close(pipe_fds[0]);
	waitpid(pid, NULL, 0);
	if (got <= 0) {
		doctor_found(result, DOCTOR_OK, "bridge, VXLAN, tap and nftables work");
		return;
	}
	why[got] = 0;
	doctor_found(result, DOCTOR_MISSING, "%.200s", why);
	doctor_advise(
		result,
		"modprobe bridge vxlan tun nf_tables nft_chain_nat; /dev/net/tun must be there");
}

void doctor_outside(struct doctor_result *result)
{
	static const char *const argv[] = { "slirp4netns", "--version", NULL };
	_cleanup_free_ char *text = NULL;

	if (capture(argv, 4096, &text) == 0) {
		text[strcspn(text, "\n")] = 0;
		doctor_found(result, DOCTOR_OK, "%.200s", text);
		return;
	}
	doctor_found(result, DOCTOR_LESS,
		     "no slirp4netns: clusters of namespaces cannot reach the outside");
	doctor_advise(result, "apt-get install slirp4netns");
}

void doctor_programs(struct doctor_result *result)
{
	static const char *const helpers[] = { "sf-memtap", "sf-uffd-shim.so" };
	char path[PATH_MAX];

	paths_sfd(path);
	for (unsigned i = 0; i < ARRAY_SIZE(helpers) && !access(path, X_OK); i++)
		paths_helper(helpers[i], path);
	if (access(path, R_OK)) {
		doctor_found(result, DOCTOR_MISSING, "no %.200s", path);
		doctor_advise(result,
			      "make, make install; or name a folder that has it in SF_LIBEXEC");
		return;
	}
	paths_sfd(path);
	doctor_found(result, DOCTOR_OK, "%.200s and its helpers", path);
}

void doctor_guest(struct doctor_result *result)
{
	static const char *const files[] = { "vmlinuz", "initrd.img" };
	char dir[PATH_MAX], path[PATH_MAX + 16];

	paths_guest(NULL, dir);
	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		if (!access(path, R_OK))
			continue;
		doctor_found(result, DOCTOR_MISSING, "no %.200s", path);
		doctor_advise(result,
			      "make -C guest-image; or name a folder that has them in SF_GUEST");
		return;
	}
	doctor_found(result, DOCTOR_OK, "%.200s", dir);
}
