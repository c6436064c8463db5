/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a VM's configuration to a QEMU process that has all it needs. */
#ifndef HOST_VMM_LAUNCH_H
#define HOST_VMM_LAUNCH_H

#include <sys/types.h>

#include "host/vmm/vmm.h"

/* A process, and our ends of what connects us with it. All the caller's; -1 once taken. */
struct launched {
	pid_t pid;
	int pidfd;
	int console;	/* pipe: what it prints */
	int qmp;	/* stream socket */
	int handover;	/* the shim's sequenced-packet socket */
	int doorbell;	/* stream socket: a byte for each ring */
};

/* Starts QEMU. Return: 0 and *qemu, or -errno with a sentence in `why`. */
int launch(const struct vmm_config *config, struct launched *qemu, char *why, size_t why_bytes);

/* Closes the descriptors that were not taken. The process goes on. */
void launch_fini(struct launched *qemu);

#endif
