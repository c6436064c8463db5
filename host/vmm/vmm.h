/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vmm: one stock QEMU process, from its command line to its end, driven by QMP.
 *
 * Everything is asynchronous on the caller's event loop; no call here waits for QEMU. QEMU runs as
 * its own user (`uid`), in its own network, mount, IPC and UTS namespaces, under its seccomp
 * filter, with every file and socket it needs handed in as a descriptor, and dies with the process that
 * started it. Nothing it uses has a name in a file system that could be left behind.
 *
 * A VM is in one of these states; calls that do not fit get -EINVAL, and -EBUSY while another is
 * under way:
 *
 *   STARTING  process started, QMP not answering yet
 *   WAITING   a clone in the making: -incoming defer          → vmm_load()
 *   RUNNING   vCPUs run                                       → vmm_save()
 *   PAUSED    stopped, device state saved                     → vmm_cont()
 *   ENDED     process gone; only vmm_destroy() is left
 */
#ifndef HOST_VMM_VMM_H
#define HOST_VMM_VMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct vmm;

#define VMM_MAX_DISKS 4u

enum vmm_accel { VMM_ACCEL_AUTO, VMM_ACCEL_KVM, VMM_ACCEL_TCG };
enum vmm_state { VMM_STARTING, VMM_WAITING, VMM_RUNNING, VMM_PAUSED, VMM_ENDED };

/* "auto", "kvm", "tcg" → *accel. Return: 0, or -EINVAL. */
int vmm_accel_parse(const char *word, enum vmm_accel *accel);
const char *vmm_accel_name(enum vmm_accel accel);

/*
 * Finds the accelerator to use, by trying: AUTO runs a few guest instructions under KVM in a child
 * process and takes KVM only if they came to their end; it takes less than a second. KVM does the
 * same and fails if it does not work. Blocks; call it before the event loop runs.
 * `why` (at least 128 bytes) gets a sentence on the choice. Return: 0, or -ENODEV.
 */
int vmm_probe_accel(enum vmm_accel wanted, enum vmm_accel *found, char *why, size_t why_bytes);

/* The guest CPU model that every host of a cluster offers under this accelerator. */
const char *vmm_cpu_model(enum vmm_accel accel);

/* What a VM is made of. Descriptors are borrowed for the call: the caller still owns them after. */
struct vmm_config {
	const char *name;	/* for logs and the process list */
	const char *qemu;	/* program; NULL: qemu-system-x86_64 in PATH */
	const char *shim;	/* path of the preloaded uffd shim */
	enum vmm_accel accel;	/* KVM or TCG */
	uint64_t ram_bytes;	/* multiple of 1 MiB */
	unsigned cpus;		/* 1..64 */
	uid_t uid;		/* user and group of the process */
	const char *kernel;	/* opened here; QEMU gets descriptors. NULL: from the first disk */
	const char *initrd;
	bool ipv6;		/* the guest's kernel has it */
	const char *cmdline;	/* added to the baseline that vmm needs (console, …) */
	bool clone;		/* maps RAM privately and waits for a descriptor */
	int ram_fd;		/* memfd of ram_bytes */
	int window_fd;		/* clone: memfd, mapped over the RAM (proto/uffd.h); -1: none */
	uint64_t window_offset;	/* bytes, in the RAM */
	uint64_t window_bytes;	/* of the memfd, from its start */
	unsigned disk_count;	/* 0..VMM_MAX_DISKS, */
	int disk_fds[VMM_MAX_DISKS];	/* each a connected socket with an NBD server behind it */
	int tap_fd;		/* -1: no network */
	uint8_t mac[6];
	int xenstore_fd;	/* one end of a stream socketpair each: the other is the caller's */
	int agent_fd;
	const char *marks[2];	/* "NAME=VALUE" in the process's environment, to find it by; or NULL */
	int console_fd;		/* gets the serial console's and QEMU's own output; -1: dropped */
};

/* Called from the event loop. None is called after vmm_destroy(). `arg` is vmm_start()'s. */
struct vmm_events {
	/*
	 * QEMU mapped its RAM and waits (proto/uffd.h). `uffd` is the receiver's from now on.
	 * Answer with vmm_ram_accept(), at once or later.
	 */
	void (*ram_mapped)(void *arg, int uffd, uint64_t base, uint64_t length_bytes);
	/* RUNNING was reached for a VM that boots, WAITING for a clone. */
	void (*ready)(void *arg);
	/* The guest rang (SFK_DOORBELL_PORT in proto/kmod.h), once or several times. */
	void (*doorbell)(void *arg);
	/*
	 * The process is gone, without vmm_destroy(). `why`: a sentence with the end of its
	 * output. A call under way got -EPIPE and the same sentence before.
	 */
	void (*ended)(void *arg, const char *why);
};

/* The end of an asynchronous call: error is 0 or -errno, and `why` then a sentence. */
typedef void vmm_done(void *arg, int error, const char *why);

/*
 * Starts a QEMU. Return: 0 and *vm (the caller's, to vmm_destroy()), or -errno with a sentence in
 * `why`. `events` is copied.
 */
int vmm_start(struct event_base *base, const struct vmm_config *config,
	      const struct vmm_events *events, void *arg, struct vmm **vm, char *why,
	      size_t why_bytes);

/* The guest RAM is in somebody's care (ok) or nobody's: QEMU goes on, or ends. */
void vmm_ram_accept(struct vmm *vm, bool ok);

/*
 * Stops the vCPUs and writes the device state (all but the RAM) from the start of `fd`, a regular
 * file or memfd, borrowed for the call. Then PAUSED. On an error the VM runs on. A VM that was
 * started as a clone can not be saved (-EOPNOTSUPP): its RAM is not in a file of its own.
 */
int vmm_save(struct vmm *vm, int fd, vmm_done *done, void *arg);

/* Lets a PAUSED VM go on. */
int vmm_cont(struct vmm *vm, vmm_done *done, void *arg);

/*
 * A WAITING clone loads the device state in `fd` (memfd, read from its start through a description
 * of its own; borrowed for the call) and runs. `done` when the vCPUs run.
 */
int vmm_load(struct vmm *vm, int fd, vmm_done *done, void *arg);

/*
 * CLOCK_MONOTONIC of the steps of the last save: command sent, vCPUs stopped, state saved; and when
 * the vCPUs ran last, after vmm_cont() or vmm_load(). The VM pauses from stopped_ns to running_ns.
 */
struct vmm_times {
	uint64_t stop_ns, stopped_ns, saved_ns, running_ns;
};
const struct vmm_times *vmm_times(const struct vmm *vm);

enum vmm_state vmm_state(const struct vmm *vm);
pid_t vmm_pid(const struct vmm *vm);

/*
 * Ends the process (SIGKILL) and frees everything. No callback follows. The event loop reaps the
 * process as soon as it is gone; a loop that stops before leaves that to init. NULL is fine.
 */
void vmm_destroy(struct vmm *vm);

#endif
