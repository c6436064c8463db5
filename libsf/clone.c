/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Going through an instant: calls that are entered once and come back in several VMs.
 *
 * What follows the answer is a clone's first moment of life, and every page it touches comes over
 * the network. So the answer is taken from whoever has it first: in a clone that is the agent,
 * which is awake anyway, with one packet; in the parent it is XenStore. Then the handlers, then the
 * parent is told. The tidying waits until XenStore is used again.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/cleanup.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/agent-socket.h"

/* The agent answers at once; without it the clone works all the same. */
#define ARRIVED_TIMEOUT_MS 1000

static atomic_flag under_way = ATOMIC_FLAG_INIT;

/*
 * Asks for an instant and comes back from it, here and in the clones. The answer has `count`
 * numbers; numbers[which] is this VM's id. Return: the id, or -1.
 */
static int go_through(const char *request, int *numbers, unsigned count, unsigned which)
{
	struct lsf_instant instant = { .sock = -1, .udp = -1 };
	_cleanup_free_ char *reply = NULL;
	struct lsf_request r;
	int rc = -1, number;

	if (atomic_flag_test_and_set(&under_way))
		return lsf_fail(EBUSY, "another thread is cloning this VM");
	lsf_handlers_run(HANDLER_PREPARE);
	/* without limit: who gave up waiting would take itself for the parent in every clone */
	reply = lsf_request_instant(&r, &instant, request);
	if (instant.id) {
		numbers[0] = (int)instant.checkpoint;
		numbers[which] = (int)instant.id;
		rc = (int)instant.id;
	} else if (reply && !lsf_reply_numbers(reply, numbers, count)) {
		rc = numbers[which];
	}
	number = errno;
	lsf_handlers_run(rc > 0 ? HANDLER_CHILD : HANDLER_PARENT);
	if (instant.id)
		lsf_instant_arrived(&instant);
	else if (rc > 0)
		lsf_agent_ask(AGENT_SOCK_ARRIVED, (uint64_t)rc, -1, ARRIVED_TIMEOUT_MS);
	r.late = instant.id;
	lsf_request_end(&r);
	lsf_instant_end(&instant);
	atomic_flag_clear(&under_way);
	errno = number;
	return rc;
}

int sf_clone_ticket(int ticket)
{
	char request[32];
	int answer[2]; /* id, made */

	snprintf(request, sizeof(request), "clone %d", ticket);
	return go_through(request, answer, 2, 0);
}

int sf_checkpoint_parent(int *checkpoint)
{
	int answer[3]; /* checkpoint, id, made */
	int id;

	if (!checkpoint)
		return lsf_fail(EINVAL, "no place for the checkpoint's number");
	id = go_through("checkpoint", answer, 3, 1);
	if (id >= 0)
		*checkpoint = answer[0];
	return id;
}

int sf_checkpoint_free(int checkpoint)
{
	int id = sf_id();

	return id ? id < 0 ? -1 : 0 : lsf_request_simple("drop %d", checkpoint);
}

int sf_create_clones(int checkpoint, int ticket)
{
	_cleanup_free_ char *reply = NULL;
	struct lsf_request r;
	int made;

	reply = lsf_request_begin(&r, -1, "create %d %d", checkpoint, ticket);
	lsf_request_end(&r);
	if (!reply || lsf_reply_numbers(reply, &made, 1))
		return -1;
	return made;
}

void sf_exit(int status)
{
	struct lsf_request r;

	fflush(NULL);
	/* no answer but a refusal: the VM is gone */
	free(lsf_request_begin(&r, -1, "exit %d", status & 0xff));
	lsf_request_end(&r);
	fprintf(stderr, "sf_exit: %s; only this process ends\n", sf_error());
	exit(status);
}
