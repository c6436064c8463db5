/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Members as clones of the VM, by libsf. A ticket is asked for while the program does other things,
 * so that the hosts are ready when the region begins.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "omp-shim/hush.h"
#include "omp-shim/real.h"
#include "omp-shim/team.h"
#include "sf.h"

static struct {
	pthread_mutex_t lock;
	pthread_t asker;	/* the thread that asks for a ticket */
	bool asking;
	unsigned wanted;
	int ticket;		/* 0: none; negative: -errno */
} ahead = { .lock = PTHREAD_MUTEX_INITIALIZER };

static int ticket;		/* of the region under way */
static unsigned member_count;

static void *ask(void *unused)
{
	int got = sf_request_ticket(ahead.wanted, NULL);

	(void)unused;
	ahead.ticket = got < 0 ? -errno : got;
	return NULL;
}

void region_prepare(unsigned size)
{
	pthread_mutex_lock(&ahead.lock);
	if (omp_team.ways == &team_by_clones && !ahead.asking && !ahead.ticket) {
		ahead.wanted = size;
		ahead.asking = !real_pthread_create(&ahead.asker, NULL, ask, NULL);
	}
	pthread_mutex_unlock(&ahead.lock);
}

/* Waits for what was asked for. Return: a ticket, or -errno. */
static int take_ticket(unsigned size)
{
	int got;

	region_prepare(size);
	pthread_mutex_lock(&ahead.lock);
	if (ahead.asking)
		pthread_join(ahead.asker, NULL);
	ahead.asking = false;
	got = ahead.ticket;
	ahead.ticket = 0;
	pthread_mutex_unlock(&ahead.lock);
	return got ? got : -EAGAIN;
}

static int ready(unsigned *size)
{
	int granted;

	if (ticket) /* of a region that was not begun */
		return *size = member_count, 0;
	ticket = take_ticket(*size);
	granted = ticket > 0 ? sf_ticket_granted(ticket) : 0;
	if (granted <= 0) {
		int rc = ticket < 0 ? ticket : -errno;

		ticket = 0;
		return rc;
	}
	if ((unsigned)granted < *size)
		*size = (unsigned)granted;
	member_count = (unsigned)granted;
	return 0;
}

static void give_back(void)
{
	if (ticket)
		sf_ticket_free(ticket);
	ticket = 0;
}

static int make(unsigned size)
{
	int id, rc = 0;

	(void)size;
	hush_others();
	id = sf_clone_ticket(ticket);
	if (id > 0)
		return id;
	if (id < 0)
		rc = -errno;
	let_others_go();
	if (rc)
		give_back();
	return rc;
}

static int address(char *text, size_t len)
{
	return sf_address(0, text, len) ? -errno : 0;
}

static bool ended(unsigned number, char *why, size_t len)
{
	struct sf_status status;

	if (sf_status_ticket(ticket, number + 1, &status)) {
		snprintf(why, len, "%s", sf_error());
		return true;
	}
	if (!SF_STATE_ENDED(status.state))
		return false;
	snprintf(why, len, "%s%s%s", status.host, status.reason[0] ? ": " : "", status.reason);
	return true;
}

static void end(void)
{
	sf_kill_ticket(ticket);
	sf_join_ticket(ticket);
	give_back();
}

const struct team_ways team_by_clones = {
	.ready = ready,
	.clone = make,
	.address = address,
	.ended = ended,
	.end = end,
	.leave = sf_exit,
};

void region_finish(void)
{
	int left;

	if (omp_team.ways != &team_by_clones)
		return;
	give_back();
	left = ahead.asking || ahead.ticket ? take_ticket(1) : 0;
	if (left > 0)
		sf_ticket_free(left);
}
