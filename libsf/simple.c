/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simple calls, sf_clone() and sf_join(): tickets that this process keeps in mind, so that its
 * program need not.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "libsf/internal.h"
#include "libsf/sf.h"

/* All of it is this process's: after fork() the child starts with nothing, as with its children. */
static struct {
	int last;      /* ticket that sf_status() and sf_result() mean; 0: none */
	int *unjoined; /* tickets, oldest first */
	unsigned count, room;
	unsigned generation; /* of the process that this describes */
} mine;
static pthread_mutex_t mine_lock = PTHREAD_MUTEX_INITIALIZER;

static void mine_forget(void)
{
	mine.last = 0;
	mine.count = 0;
	mine.generation = lsf_fork_generation();
}

static void mine_enter(void)
{
	pthread_mutex_lock(&mine_lock);
	if (mine.generation != lsf_fork_generation())
		mine_forget();
}

static void mine_leave(void)
{
	pthread_mutex_unlock(&mine_lock);
}

/* Makes room for one more ticket, so that remembering it after the clone cannot fail. */
static int mine_reserve(void)
{
	int rc = 0;

	mine_enter();
	if (mine.count == mine.room) {
		unsigned room = mine.room ? mine.room * 2 : 8;
		int *more = realloc(mine.unjoined, room * sizeof(*more));

		if (more) {
			mine.unjoined = more;
			mine.room = room;
		} else {
			rc = lsf_fail(ENOMEM, "no memory to remember another ticket");
		}
	}
	mine_leave();
	return rc;
}

/*
 * In the parent, after a clone operation. Return: the ticket that nobody can mean any more, or 0.
 */
static int mine_remember(int ticket)
{
	int old;

	mine_enter();
	old = mine.last;
	for (unsigned i = 0; i < mine.count; i++) {
		if (mine.unjoined[i] == old)
			old = 0; /* is given back when it was joined */
	}
	mine.last = ticket;
	if (mine.count < mine.room)
		mine.unjoined[mine.count++] = ticket;
	mine_leave();
	return old;
}

/* Gives back a ticket that could not be used; errno and sentence stay those of the failure. */
static void give_up(int ticket)
{
	int number = errno;
	char why[512];

	snprintf(why, sizeof(why), "%s", sf_error());
	sf_ticket_free(ticket);
	lsf_fail(number, "%s", why);
}

int sf_clone(unsigned n)
{
	int ticket, id, old;

	if (mine_reserve())
		return -1;
	ticket = sf_request_ticket(n, NULL);
	if (ticket < 0)
		return -1;
	id = sf_clone_ticket(ticket);
	if (id < 0) {
		give_up(ticket);
	} else if (id > 0) {
		mine_enter();
		mine_forget(); /* the tickets are the parent's */
		mine_leave();
	} else {
		old = mine_remember(ticket);
		if (old)
			sf_ticket_free(old);
	}
	return id;
}

int lsf_simple_ticket(void)
{
	int ticket;

	mine_enter();
	ticket = mine.last;
	mine_leave();
	return ticket ? ticket : lsf_fail(ECHILD, "this process has made no clones");
}

static int first_unjoined(void)
{
	int ticket;

	mine_enter();
	ticket = mine.count ? mine.unjoined[0] : 0;
	mine_leave();
	return ticket;
}

/* Takes a joined ticket out. Return: true if nobody can mean it any more. */
static bool mine_joined(int ticket)
{
	bool over = false;

	mine_enter();
	for (unsigned i = 0; i < mine.count; i++) {
		if (mine.unjoined[i] != ticket)
			continue;
		for (mine.count--; i < mine.count; i++)
			mine.unjoined[i] = mine.unjoined[i + 1];
		over = ticket != mine.last;
	}
	mine_leave();
	return over;
}

int sf_join(void)
{
	int ticket = first_unjoined();

	if (!ticket)
		return lsf_fail(ECHILD, "this process has no clones to wait for");
	for (; ticket; ticket = first_unjoined()) {
		if (sf_join_ticket(ticket)) {
			int number = errno;

			/* a ticket that is gone, or this VM is a clone now: not again */
			if (number == ENOENT || number == ECHILD)
				mine_joined(ticket);
			return lsf_fail(number == ENOENT ? ECHILD : number, "%s", sf_error());
		}
		if (mine_joined(ticket))
			sf_ticket_free(ticket);
	}
	return 0;
}
