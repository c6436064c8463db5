/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands behind sfctl cluster. */
#ifndef HOST_SFCTL_CLUSTER_H
#define HOST_SFCTL_CLUSTER_H

#include "host/sfctl/sfctl.h"

int cmd_cluster_up(struct sfctl *ctl, int argc, char **argv);
int cmd_cluster_down(struct sfctl *ctl, int argc, char **argv);

/*
 * Ends a cluster's daemons on this machine and removes their folders; without a host, also its
 * namespaces and its own folder. Complains of what does not work. Return: how many daemons and
 * namespaces there were, or -errno.
 */
int cluster_take_down(const char *cluster, const char *host);

/* True if the cluster has namespaces of its own on this machine. */
bool cluster_is_embedded(const char *cluster);

#endif
