/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Named fault points, read once from SF_FAULT. */
#include "common/fault.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define FAULT_MAX 16

static struct fault {
	char name[48];
	long left;	/* how many times still; -1: always */
} faults[FAULT_MAX];
static int fault_count = -1;	/* -1: SF_FAULT not read yet */

static void faults_read(const char *list)
{
	fault_count = 0;
	while (list && *list && fault_count < FAULT_MAX) {
		struct fault *f = &faults[fault_count];
		size_t len = strcspn(list, ",:");

		if (len && len < sizeof(f->name)) {
			memcpy(f->name, list, len);
			f->left = list[len] == ':' ? strtol(list + len + 1, NULL, 10) : -1;
			fault_count++;
		}
		list += strcspn(list, ",");
		list += *list == ',';
	}
}

bool fault_hit(const char *name)
{
	if (fault_count < 0)
		faults_read(getenv("SF_FAULT"));
	for (int i = 0; i < fault_count; i++) {
		struct fault *f = &faults[i];

		if (strcmp(f->name, name) || !f->left)
			continue;
		if (f->left > 0)
			f->left--;
		log_warn("fault: %s", name);
		return true;
	}
	return false;
}
