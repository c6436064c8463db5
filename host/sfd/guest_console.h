/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The console of a VM without an agent: all that is seen of it. */
#ifndef HOST_SFD_GUEST_CONSOLE_H
#define HOST_SFD_GUEST_CONSOLE_H

struct guest;
struct guest_console;

/*
 * Passes what is printed on to who booted the guest, and to the daemon's console.log. *fd gets the
 * descriptor for vmm, the caller's. Return: it, or NULL with errno.
 */
struct guest_console *guest_console_new(struct guest *g, int *fd);
/* After what is left was passed on. NULL is fine. */
void guest_console_free(struct guest_console *c);

#endif
