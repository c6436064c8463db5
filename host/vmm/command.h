/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's command line for one VM. */
#ifndef HOST_VMM_COMMAND_H
#define HOST_VMM_COMMAND_H

#include "host/vmm/vmm.h"

/* The numbers under which QEMU finds its descriptors; 0, 1 and 2 are what they are everywhere. */
enum qemu_fd {
	QEMU_FD_CONSOLE = 3,
	QEMU_FD_QMP,
	QEMU_FD_HANDOVER,
	QEMU_FD_USERFAULT,
	QEMU_FD_RAM,
	QEMU_FD_SHIM,
	QEMU_FD_XENSTORE,
	QEMU_FD_AGENT,
	QEMU_FD_DOORBELL,
	QEMU_FD_WINDOW,
	QEMU_FD_TAP,
	QEMU_FD_KERNEL,
	QEMU_FD_INITRD,
	QEMU_FD_DISK,	/* the first; the others follow */
	QEMU_FD_LAST_DISK = QEMU_FD_DISK + VMM_MAX_DISKS - 1,
	QEMU_FD_END
};

#define COMMAND_MAX_ARGS 128

/*
 * Builds the command line of a VM: `argv` ends with a NULL, argv[0] is `program`. Return: the
 * number of arguments, or -errno. The strings are the caller's: command_free().
 */
int command_build(const struct vmm_config *config, const char *program,
		  char *argv[COMMAND_MAX_ARGS]);
void command_free(char *argv[COMMAND_MAX_ARGS]);

#endif
