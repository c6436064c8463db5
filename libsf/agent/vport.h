/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finding and opening virtio-serial ports by name. */
#ifndef AGENT_VPORT_H
#define AGENT_VPORT_H

/*
 * Opens the port called `name`, waiting up to `wait_ms` for the kernel to show it and for the host
 * to be connected. Return: a non-blocking descriptor, the caller's, or -errno.
 */
int vport_open(const char *name, unsigned wait_ms);

#endif
