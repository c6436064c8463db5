/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The hosts file: who is in the cluster. */
#ifndef HOST_SFD_HOSTS_H
#define HOST_SFD_HOSTS_H

#include "host/sfd/daemon.h"

/*
 * Reads config.hosts_file (`name address[:port] [mem=SIZE]` a line, # to the end is comment) into
 * d->hosts and finds d->self. Return: 0, or -errno with a sentence in `why`.
 */
int hosts_read(struct daemon *d, char why[WHY_BYTES]);
void hosts_free(struct daemon *d);

/* Return: the host, or NULL. */
struct host *hosts_find(struct daemon *d, const char *name);

/* "512M", "4G", "4096" (bytes), K, T → bytes. Return: 0 or -EINVAL. */
int size_parse(const char *text, uint64_t *bytes);

#endif
