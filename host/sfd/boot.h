/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The boot request of sfctl's: checked, its images opened, then a guest. */
#ifndef HOST_SFD_BOOT_H
#define HOST_SFD_BOOT_H

#include <jansson.h>

#include "host/sfd/daemon.h"

struct control;

/* Answers it, now or when the VM is up. */
void boot_serve(struct daemon *d, struct control *owner, json_t *request);

/* Who asked is gone: so is what he asked for. NULL: all of them. */
void boot_control_lost(const struct control *owner);

#endif
