/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The other processes of the VM stand still while it is cloned, and in clones for ever: a program of
 * ours, sf-hush, stops them at our word. This process is not touched.
 */
#ifndef OMP_SHIM_HUSH_H
#define OMP_SHIM_HUSH_H

/* Return: 0, or -errno if they cannot be stopped (and are not). */
int hush_others(void);

/* In the parent. */
void let_others_go(void);

#endif
