/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A tiny initrd for tests: busybox, a script as init, and virtio's modules. */
#ifndef TESTS_VMM_INITRD_H
#define TESTS_VMM_INITRD_H

/* What to boot it with: rdinit=INITRD_INIT. */
#define INITRD_INIT "/vmm-test/init"

/*
 * Writes the initrd to `path`. `modules`: a folder with a kernel's modules, or NULL; `base`: an
 * initrd that has them, or NULL. Return: 0, 77 if this machine lacks what is needed (said on
 * stderr), or 1.
 */
int initrd_make(const char *path, const char *script, const char *modules, const char *base);

#endif
