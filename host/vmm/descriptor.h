/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM descriptor: the device state of a stopped VM, saved and loaded by QEMU's migration.
 *
 * With x-ignore-shared the RAM stays out of it. Saving starts while the vCPUs still run: QEMU sets
 * up, writes its ROMs, stops the vCPUs by itself at the last moment, and writes the devices; so the
 * stop is as short as the devices are few, and the state says "running", which makes a clone run
 * as soon as it has loaded.
 */
#ifndef HOST_VMM_DESCRIPTOR_H
#define HOST_VMM_DESCRIPTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "host/vmm/vmm.h"

struct qmp;

enum descriptor_stage {
	DESCRIPTOR_IDLE,
	DESCRIPTOR_SAVING,	/* until QEMU says completed or failed */
	DESCRIPTOR_SETTLING,	/* saved; until QEMU may continue */
	DESCRIPTOR_UNDOING,	/* failed; until the VM runs again */
	DESCRIPTOR_LOADING,	/* until the vCPUs run */
};

/* One save or load at a time. */
struct descriptor {
	struct qmp *qmp;
	enum descriptor_stage stage;
	struct vmm_times times;
	char why[256];
	vmm_done *done;
	void *arg;
};

/* What both sides of a clone must agree on, before anything else. Return: 0 or -errno. */
int descriptor_prepare(struct descriptor *d);

/* Saves a running VM to the start of `fd` (borrowed). Return: 0 or -errno. */
int descriptor_save(struct descriptor *d, int fd, vmm_done *done, void *arg);

/* Loads from the start of `fd` (borrowed). Return: 0 or -errno. */
int descriptor_load(struct descriptor *d, int fd, vmm_done *done, void *arg);

/* Every event of QEMU's goes through here. */
void descriptor_event(struct descriptor *d, const char *name, const json_t *data);

/* QEMU is gone: ends what is under way with -EPIPE. */
void descriptor_abort(struct descriptor *d, const char *why);

#endif
