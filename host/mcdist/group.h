/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The source of MC_MULTICAST: what is asked for goes to all, unless it is under way to all.
 *
 * For each page there is kept when it was last sent to the group, in two bytes.
 */
#ifndef MCDIST_GROUP_H
#define MCDIST_GROUP_H

#include "host/mcdist/giver.h"

struct mc_group;

/* Return: the caller's to destroy, or NULL. */
struct mc_group *mc_group_create(struct mc_giver *giver, const struct mc_address *address);
void mc_group_destroy(struct mc_group *group);

/* A member asks for pages: they are owed to it, to all, or to nobody. */
void mc_group_asked(struct mc_group *group, const struct mc_address *from,
		    const struct mc_span *span);

void mc_group_report(struct mc_group *group, const struct mc_report *report);

/* Pays what is owed to all, as fast as it may. */
void mc_group_pay(struct mc_group *group);

/*
 * Sends pages that nobody asked for, if nothing that was asked for waits. Return: 0, or when to try
 * again.
 */
uint64_t mc_group_push(struct mc_group *group, const struct mc_span *span);

/* Has the page been sent to all? */
bool mc_group_had(const struct mc_group *group, uint64_t gfn);

const struct mc_address *mc_group_address(const struct mc_group *group);

#endif
