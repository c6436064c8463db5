/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* sf_atclone(): what a program wants done around a clone. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "libsf/internal.h"
#include "libsf/sf.h"

struct handlers {
	void (*call[HANDLER_TIMES])(void);
	struct handlers *earlier, *later;
};

/*
 * Guards the two ends. Registered handlers are never freed and their own links only change by
 * additions at the end, so a walk needs the lock for its first step alone.
 */
static pthread_mutex_t handlers_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handlers *first, *last;

int sf_atclone(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
	struct handlers *h = calloc(1, sizeof(*h));

	if (!h)
		return lsf_fail(ENOMEM, "no memory for another handler");
	h->call[HANDLER_PREPARE] = prepare;
	h->call[HANDLER_PARENT] = parent;
	h->call[HANDLER_CHILD] = child;
	pthread_mutex_lock(&handlers_lock);
	h->earlier = last;
	if (last)
		__atomic_store_n(&last->later, h, __ATOMIC_RELEASE);
	else
		first = h;
	last = h;
	pthread_mutex_unlock(&handlers_lock);
	return 0;
}

void lsf_handlers_run(enum handler_time when)
{
	struct handlers *h;

	pthread_mutex_lock(&handlers_lock);
	h = when == HANDLER_PREPARE ? last : first;
	pthread_mutex_unlock(&handlers_lock);
	while (h) {
		if (h->call[when])
			h->call[when]();
		h = when == HANDLER_PREPARE ? h->earlier
					    : __atomic_load_n(&h->later, __ATOMIC_ACQUIRE);
	}
}
