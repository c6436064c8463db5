/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tap for a VM under test, and an ear on what the guest sends through it. */
#ifndef TESTS_VMM_TAP_H
#define TESTS_VMM_TAP_H

struct tap {
	int fd;		/* for QEMU */
	int ear;	/* packet socket */
};

/* Makes a tap, up, in this network namespace. Return: 0 or -errno. */
int tap_open(struct tap *tap, const char *name);

/* Return: how many frames the guest has sent since the last call. */
int tap_frames(struct tap *tap);

void tap_close(struct tap *tap);

#endif
