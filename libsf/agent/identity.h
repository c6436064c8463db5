/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What else can be a clone's own, as clone.conf wants it: hostname and machine id. */
#ifndef AGENT_IDENTITY_H
#define AGENT_IDENTITY_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define IDENTITY_PATHS 2

struct identity {
	const char *config;			/* path of clone.conf */
	const char *machine_id[IDENTITY_PATHS];	/* the second only if it is a regular file */
	struct stat seen;			/* of clone.conf when it was read; st_nlink 0: none */
	char hostname[HOST_NAME_MAX + 1];	/* pattern; empty: keep */
	bool new_machine_id;
};

/*
 * The paths must live as long as the identity: clone.conf, the machine's id, and where D-Bus may
 * have it again.
 */
void identity_init(struct identity *identity, const char *config, const char *machine_id,
		   const char *dbus_machine_id);

/* In the parent: reads clone.conf if it is another than before. What is wrong in it is logged. */
void identity_read(struct identity *identity);

/* In clone `id`: does what clone.conf wants. What fails is logged. */
void identity_apply(const struct identity *identity, uint32_t id);

#endif
