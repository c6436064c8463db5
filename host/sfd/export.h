/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk of a VM or clone of this host, written as a new image (sfctl export). */
#ifndef HOST_SFD_EXPORT_H
#define HOST_SFD_EXPORT_H

#include <jansson.h>

#include "host/sfd/daemon.h"

struct control;
struct disk;

/* Answers it, now or when the image is there. */
void export_serve(struct daemon *d, struct control *owner, json_t *request);

/* Who asked is gone: nothing of the image is left. */
void export_control_lost(const struct control *owner);

/* The disk is about to end. */
void export_disk_lost(const struct disk *disk);

#endif
