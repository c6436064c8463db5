/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands, as the keeper has them: between a launcher and an executor.
 *
 * A launcher that goes has its command ended: SIGTERM, and if that does not do, SIGKILL; and if even
 * that is not followed by EXITED, the command counts as ended. With the last command of a clone the
 * clone leaves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "keeper.h"

#define TERM_NS	     2000000000ull /* between SIGTERM and SIGKILL */
#define KILL_NS	     5000000000ull /* between SIGKILL and giving up */
#define CLOGGED_BYTES (256u << 10) /* of output that a launcher does not take */

static void say_exited(struct peer *launcher, int status, const char *why)
{
	struct mpi_exited exited = { .status = status };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &exited, sizeof(exited));
	wire_add_string(&payload, why);
	peer_say(launcher, MPI_EXITED, 0, &payload);
}

static void send_signal(struct launch *launch, int signal)
{
	struct mpi_signal wanted = { .signal = signal };
	struct wire_payload payload = { 0 };

	wire_add(&payload, &wanted, sizeof(wanted));
	peer_say(launch->member->peer, MPI_SIGNAL, launch->number, &payload);
}

static void forget(struct keeper *keeper, struct launch *launch)
{
	struct launch **at = &keeper->launches;

	while (*at != launch)
		at = &(*at)->next;
	*at = launch->next;
	if (launch->launcher)
		launch->launcher->launch = NULL;
	wire_free(&launch->start);
	free(launch);
}

/* Forgets a command that has ended, and has its clone leave if it was the last. */
static void end(struct keeper *keeper, struct launch *launch)
{
	struct member *member = launch->member;

	forget(keeper, launch);
	if (!launches_any(member))
		member_leave(member);
}

bool launches_any(const struct member *member)
{
	for (struct launch *l = member->group->keeper->launches; l; l = l->next) {
		if (l->member == member)
			return true;
	}
	return false;
}

/* ---- the launcher's side ---- */

static void start(struct launch *launch)
{
	struct wire_payload payload = launch->start;

	launch->start = (struct wire_payload){ 0 };
	launch->sent = true;
	peer_say(launch->member->peer, MPI_START, launch->number, &payload);
}

void launches_start(struct member *member)
{
	for (struct launch *l = member->group->keeper->launches; l; l = l->next) {
		if (l->member == member && !l->sent)
			start(l);
	}
}

/* Makes START's payload of LAUNCH's: the same without the address. Return: the address, or NULL. */
static const char *take_launch(const struct mpi_frame *frame, const uint8_t *payload,
			       struct wire_payload *start_payload)
{
	_cleanup_free_ char **strings = NULL;
	struct mpi_counts counts;
	const char *address;
	size_t count, skip;

	errno = EPROTO;
	if (frame->length < sizeof(counts))
		return NULL;
	memcpy(&counts, payload, sizeof(counts));
	strings = wire_strings(payload + sizeof(counts), frame->length - sizeof(counts), &count);
	if (!strings)
		return NULL;
	errno = EPROTO;
	if (!counts.argc || 2 + (uint64_t)counts.argc + counts.envc != count)
		return NULL;
	address = strings[0];
	skip = sizeof(counts) + strlen(address) + 1;
	wire_add(start_payload, &counts, sizeof(counts));
	wire_add(start_payload, payload + skip, frame->length - skip);
	errno = -start_payload->error;
	return start_payload->error ? NULL : address;
}

/* Return: why nothing can be started in the clone; NULL: it can. */
static const char *refusal(const struct member *member)
{
	if (member->ended || member->mute)
		return "the clone has ended";
	return member->leaving ? "the clone is about to end" : NULL;
}

int launches_launch(struct peer *launcher, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct wire_payload start_payload = { 0 };
	struct keeper *keeper = launcher->keeper;
	const char *address = take_launch(frame, payload, &start_payload);
	struct member *member = address ? groups_find(keeper, address) : NULL;
	struct launch *launch = NULL;
	int rc = address ? 0 : -errno;

	if (launcher->launch)
		rc = -EPROTO;
	if (!rc && (!member || refusal(member))) {
		if (member)
			say_exited(launcher, -1, refusal(member));
		else
			peer_say(launcher, MPI_UNKNOWN, 0, &(struct wire_payload){ 0 });
	} else if (!rc) {
		launch = calloc(1, sizeof(*launch));
		rc = launch ? 0 : -ENOMEM;
	}
	if (!launch) {
		wire_free(&start_payload);
		return rc;
	}
	if (!++keeper->last_command)
		keeper->last_command = 1;
	*launch = (struct launch){ .next = keeper->launches, .number = keeper->last_command,
				   .launcher = launcher, .member = member, .start = start_payload };
	keeper->launches = launcher->launch = launch;
	member->started = true;
	log_info("command %u: for clone %u of group %u", launch->number, member->id,
		 member->group->number);
	if (member->peer)
		start(launch);
	return 0;
}

void launches_lose_launcher(struct peer *launcher)
{
	struct launch *launch = launcher->launch;

	if (!launch)
		return;
	launch->launcher = NULL;
	launcher->launch = NULL;
	if (!launch->sent) {
		end(launcher->keeper, launch);
		return;
	}
	log_info("command %u: its launcher has gone", launch->number);
	send_signal(launch, SIGTERM);
	launch->signal_ns = io_now_ns() + TERM_NS;
}

/* ---- the executor's side ---- */

/* The command of that number in this clone; NULL: it has ended for the keeper, or never was. */
static struct launch *find(const struct peer *executor, uint32_t number)
{
	struct launch *l = executor->keeper->launches;

	while (l && (l->number != number || l->member != executor->member || !l->sent))
		l = l->next;
	return l;
}

int launches_output(struct peer *executor, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct launch *launch = find(executor, frame->number);
	struct wire_payload copy = { 0 };
	struct mpi_output head;

	if (frame->length < sizeof(head) || frame->length > sizeof(head) + MPI_MAX_DATA)
		return -EPROTO;
	memcpy(&head, payload, sizeof(head));
	if (head.fd != 1 && head.fd != 2)
		return -EPROTO;
	if (!launch || !launch->launcher)
		return 0;
	wire_add(&copy, payload, frame->length);
	peer_say(launch->launcher, MPI_OUTPUT, 0, &copy);
	return 0;
}

int launches_exited(struct peer *executor, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct launch *launch = find(executor, frame->number);
	_cleanup_free_ char **why = NULL;
	struct mpi_exited exited;
	size_t count;

	if (frame->length < sizeof(exited))
		return -EPROTO;
	memcpy(&exited, payload, sizeof(exited));
	why = wire_strings(payload + sizeof(exited), frame->length - sizeof(exited), &count);
	if (!why)
		return -errno;
	if (count != 1)
		return -EPROTO;
	if (!launch)
		return 0;
	log_info("command %u: ended with %d %s", launch->number, exited.status, why[0]);
	say_exited(launch->launcher, exited.status, why[0]);
	end(executor->keeper, launch);
	return 0;
}

uint32_t launches_lose(struct member *member, const char *why)
{
	struct keeper *keeper = member->group->keeper;
	struct launch *next;
	uint32_t count = 0;

	for (struct launch *l = keeper->launches; l; l = next) {
		next = l->next;
		if (l->member != member)
			continue;
		say_exited(l->launcher, -1, why);
		forget(keeper, l);
		count++;
	}
	return count;
}

bool launches_clogged(const struct peer *executor)
{
	for (struct launch *l = executor->keeper->launches; l; l = l->next) {
		if (l->member == executor->member && l->launcher &&
		    l->launcher->wire.out_len > CLOGGED_BYTES)
			return true;
	}
	return false;
}

uint64_t launches_tick(struct keeper *keeper, uint64_t now_ns)
{
	uint64_t due_ns = UINT64_MAX;
	struct launch *next;

	for (struct launch *l = keeper->launches; l; l = next) {
		next = l->next;
		if (l->signal_ns && l->signal_ns <= now_ns && l->killed) {
			log_warn("command %u: does not end, not even killed", l->number);
			end(keeper, l);
			continue;
		}
		if (l->signal_ns && l->signal_ns <= now_ns) {
			send_signal(l, SIGKILL);
			l->killed = true;
			l->signal_ns = now_ns + KILL_NS;
		}
		if (l->signal_ns && l->signal_ns < due_ns)
			due_ns = l->signal_ns;
	}
	return due_ns;
}
