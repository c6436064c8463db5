/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Groups: the clones of one ticket, from WANT to ENDED.
 *
 * How a clone ends is libsf's word: a thread for each ticket waits for it and writes what it hears to
 * a pipe. An executor whose connection ends without that has gone, or its network has; it cannot be
 * told to leave any more. What runs in its clone is given up after MUTE_NS, and when no other clone
 * of the group is left, the ticket is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "executor.h"
#include "keeper.h"

#define HOME_NS	      120000000000ull /* in which a clone must call home */
#define MUTE_NS	      10000000000ull  /* from the end of its connection to giving it up */
#define WATCHER_STACK (256u << 10)
#define WATCH_TRIES   60 /* one a second, while XenStore cannot be reached */

/* ---- watchers: a thread for each ticket ---- */

enum watch_kind { WATCH_MEMBER, WATCH_ALL, WATCH_CLONE, WATCH_FAILED };

/* What a watcher writes; short enough to be written in one piece. */
struct watch_report {
	uint32_t kind; /* enum watch_kind; WATCH_CLONE: this VM is a clone */
	uint32_t ticket, id;
	struct sf_status status;
};
_Static_assert(sizeof(struct watch_report) <= 4096, "PIPE_BUF");

struct watcher {
	const struct keeper_libsf *libsf;
	int ticket, pipe;
};

static void *watch(void *arg)
{
	_cleanup_free_ struct watcher *w = arg;
	unsigned tries = 0;

	for (;;) {
		struct watch_report report = { .ticket = (uint32_t)w->ticket };
		int id = w->libsf->wait_any(w->ticket, -1);

		if (id < 0 && (errno == EINTR || (errno == ECONNRESET && tries++ < WATCH_TRIES))) {
			poll(NULL, 0, errno == EINTR ? 0 : 1000);
			continue;
		}
		report.kind = id > 0 ? WATCH_MEMBER : !id ? WATCH_ALL : WATCH_FAILED;
		if (id < 0 && errno == ECHILD)
			report.kind = WATCH_CLONE;
		report.id = id > 0 ? (uint32_t)id : 0;
		if (id > 0 && w->libsf->status_ticket(w->ticket, (unsigned)id, &report.status))
			snprintf(report.status.reason, sizeof(report.status.reason), "%s",
				 w->libsf->error());
		if (io_write_full(w->pipe, &report, sizeof(report)) || id <= 0)
			return NULL;
		tries = 0;
	}
}

/* Return: 0 or -errno. */
static int start_watcher(struct group *group)
{
	struct watcher *w = malloc(sizeof(*w));
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	if (!w)
		return -ENOMEM;
	*w = (struct watcher){ .libsf = group->keeper->libsf,
			       .ticket = (int)group->number,
			       .pipe = group->keeper->watch_write };
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, WATCHER_STACK);
	rc = pthread_create(&thread, &attr, watch, w);
	pthread_attr_destroy(&attr);
	if (rc)
		free(w);
	return -rc;
}

/* ---- finding ---- */

static struct group *find_group(struct keeper *keeper, uint32_t number)
{
	struct group *g = keeper->groups;

	while (g && g->number != number)
		g = g->next;
	return g;
}

struct member *groups_find(struct keeper *keeper, const char *address)
{
	struct member *ended = NULL;

	for (struct group *g = keeper->groups; g; g = g->next) {
		for (uint32_t i = 0; i < g->clones; i++) {
			if (strcmp(g->members[i].address, address))
				continue;
			if (!g->members[i].ended)
				return &g->members[i];
			ended = &g->members[i];
		}
	}
	return ended;
}

/* ---- a clone's end ---- */

void member_leave(struct member *member)
{
	if (member->leaving || member->ended)
		return;
	member->leaving = true;
	log_debug("group %u: clone %u is to leave", member->group->number, member->id);
	peer_say(member->peer, MPI_LEAVE, 0, &(struct wire_payload){ 0 });
}

/* Tells who is concerned that a clone is not there any more. */
static void say_lost(struct member *member, const char *why)
{
	struct group *group = member->group;
	struct mpi_lost lost = { .id = member->id };
	struct wire_payload payload = { 0 };

	log_warn("group %u: %s", group->number, why);
	lost.commands = launches_lose(member, why);
	wire_add(&payload, &lost, sizeof(lost));
	wire_add_string(&payload, why);
	peer_say(group->asker, MPI_LOST, group->number, &payload);
}

static void describe_end(const struct member *member, const struct sf_status *status, char *why,
			 size_t len)
{
	static const char *const ends[] = { [SF_STATE_EXITED] = "ended",
					    [SF_STATE_KILLED] = "was killed",
					    [SF_STATE_LOST] = "was lost",
					    [SF_STATE_FAILED] = "did not start" };
	const char *end = status->state < ARRAY_SIZE(ends) ? ends[status->state] : NULL;

	snprintf(why, len, "clone %u (%s%s%.63s) %s%s%.255s", member->id, member->address,
		 *status->host ? ", on host " : "", status->host, end ? end : "ended",
		 *status->reason ? ": " : "", status->reason);
}

static void member_ended(struct member *member, const struct sf_status *status)
{
	bool expected = member->leaving && status->state == SF_STATE_EXITED;
	char why[512];

	if (member->ended)
		return;
	member->ended = true;
	member->group->living--;
	describe_end(member, status, why, sizeof(why));
	if (expected)
		launches_lose(member, why);
	else
		say_lost(member, why);
	if (member->peer)
		member->peer->error = -EPIPE;
}

/* Ends the ticket if only clones are left that cannot be told to leave. */
static void kill_if_mute(struct group *group)
{
	for (uint32_t i = 0; i < group->clones; i++) {
		if (!group->members[i].ended && !group->members[i].mute)
			return;
	}
	if (group->killed || !group->living)
		return;
	group->killed = true;
	log_warn("group %u: kills what is left of it", group->number);
	if (group->keeper->libsf->kill_ticket((int)group->number))
		log_err("group %u: %s", group->number, group->keeper->libsf->error());
}

static void member_mute(struct member *member, const char *how)
{
	char why[256];

	snprintf(why, sizeof(why), "clone %u (%s) %s", member->id, member->address, how);
	member->mute = true;
	member->mute_ns = 0;
	say_lost(member, why);
	kill_if_mute(member->group);
}

/* ---- a group's end ---- */

static void forget_group(struct group *group)
{
	struct group **at = &group->keeper->groups;

	while (*at && *at != group)
		at = &(*at)->next;
	if (*at)
		*at = group->next;
	free(group->members);
	free(group);
}

static void end_group(struct group *group)
{
	const struct keeper_libsf *libsf = group->keeper->libsf;

	if (libsf->ticket_free((int)group->number))
		log_warn("group %u: its ticket stays: %s", group->number, libsf->error());
	log_info("group %u: ended", group->number);
	peer_say(group->asker, MPI_ENDED, group->number, &(struct wire_payload){ 0 });
	for (uint32_t i = 0; i < group->clones; i++) {
		launches_lose(&group->members[i], "the clone has ended");
		if (group->members[i].peer) {
			group->members[i].peer->error = -EPIPE;
			group->members[i].peer->member = NULL;
		}
	}
	forget_group(group);
}

static void all_ended(struct group *group, const char *reason)
{
	struct sf_status status = { .state = SF_STATE_LOST };

	snprintf(status.reason, sizeof(status.reason), "%s", reason);
	for (uint32_t i = 0; i < group->clones; i++)
		member_ended(&group->members[i], &status);
	end_group(group);
}

static void take_report(struct keeper *keeper, const struct watch_report *report)
{
	struct group *group = find_group(keeper, report->ticket);

	if (report->kind == WATCH_CLONE)
		keeper->ended = true;
	if (!group)
		return;
	if (report->kind == WATCH_MEMBER && report->id && report->id <= group->clones)
		member_ended(&group->members[report->id - 1], &report->status);
	else if (report->kind == WATCH_ALL)
		all_ended(group, "it never ran");
	else if (report->kind == WATCH_FAILED)
		all_ended(group, "the host cannot be asked about it");
}

static void watch_ready(struct source *source, uint32_t events)
{
	struct keeper *keeper = (struct keeper *)((char *)source - offsetof(struct keeper, watch_pipe));
	struct watch_report report;

	(void)events;
	if (!io_read_full(source->fd, &report, sizeof(report)))
		take_report(keeper, &report);
}

int groups_prepare(struct keeper *keeper)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	keeper->watch_pipe = (struct source){ .fd = fds[0], .ready = watch_ready };
	keeper->watch_write = fds[1];
	return loop_watch(&keeper->loop, &keeper->watch_pipe, EPOLLIN);
}

/* ---- WANT ---- */

static void refuse(struct peer *asker, int error, const char *why)
{
	struct mpi_errno_of refusal = { .error = error };
	struct wire_payload payload = { 0 };

	log_warn("peer %u: refused: %s", asker->number, why);
	wire_add(&payload, &refusal, sizeof(refusal));
	wire_add_string(&payload, why);
	peer_say(asker, MPI_REFUSED, 0, &payload);
}

/* In a clone: never returns. */
static void __attribute__((noreturn)) be_executor(struct keeper *keeper, uint32_t ticket, int id)
{
	char env[sizeof(MPI_ENV) + INET_ADDRSTRLEN + 8 + MPI_TOKEN_BYTES * 2 + 2];
	struct executor_order order = { .keeper = keeper->home,
					.group = ticket,
					.id = (uint32_t)id,
					.env = env,
					.silence = &keeper->silence };
	char address[INET_ADDRSTRLEN];
	int used;

	memcpy(order.token, keeper->token, sizeof(order.token));
	inet_ntop(AF_INET, &keeper->home.sin_addr, address, sizeof(address));
	used = snprintf(env, sizeof(env), MPI_ENV "=%s:%u/", address, ntohs(keeper->home.sin_port));
	for (int i = 0; i < MPI_TOKEN_BYTES; i++)
		used += snprintf(env + used, sizeof(env) - (size_t)used, "%02x", keeper->token[i]);
	keeper_forget_parent(keeper);
	keeper->libsf->exit(executor_run(&order));
	_exit(1);
}

/*
 * Clones with everything else stopped. Return: 0 in the parent, -errno with a sentence in `why`; in a
 * clone it does not return.
 */
static int clone_silently(struct peer *asker, int ticket, char *why, size_t len)
{
	struct keeper *keeper = asker->keeper;
	uint64_t stopped_us, cloning_ns;
	int rc = silence_begin(&keeper->silence, asker->pid, 0), error;
	size_t threads = keeper->silence.count;

	if (rc) {
		snprintf(why, len, "%s", keeper->silence.why);
		return rc;
	}
	cloning_ns = io_now_ns();
	rc = keeper->libsf->clone_ticket(ticket);
	error = errno;
	if (rc > 0)
		be_executor(keeper, (uint32_t)ticket, rc);
	cloning_ns = io_now_ns() - cloning_ns;
	stopped_us = silence_end(&keeper->silence);
	log_debug("ticket %d: %zu threads were stopped for %llu us, of these %llu us by the clone",
		  ticket, threads, (unsigned long long)stopped_us,
		  (unsigned long long)(cloning_ns / 1000));
	if (rc)
		snprintf(why, len, "%s", keeper->libsf->error());
	return rc ? -error : 0;
}

/* Makes the group of a ticket that was cloned with. Return: it, or NULL with errno. */
static struct group *make_group(struct peer *asker, int ticket, uint32_t clones)
{
	struct group *group = calloc(1, sizeof(*group));

	if (!group)
		return NULL;
	*group = (struct group){ .keeper = asker->keeper, .number = (uint32_t)ticket, .asker = asker,
				 .clones = clones, .living = clones, .since_ns = io_now_ns() };
	group->members = calloc(clones, sizeof(*group->members));
	if (!group->members) {
		free(group);
		return NULL;
	}
	for (uint32_t i = 0; i < clones; i++) {
		struct member *member = &group->members[i];

		member->group = group;
		member->id = i + 1;
		if (asker->keeper->libsf->address_ticket(ticket, i + 1, member->address,
							 sizeof(member->address)))
			member->address[0] = 0; /* it never ran; the watcher says so */
	}
	group->next = asker->keeper->groups;
	asker->keeper->groups = group;
	return group;
}

/* How many of `want->ranks` ranks go to the clone of that index. */
static uint32_t ranks_of(const struct mpi_want *want, uint32_t wanted, uint32_t clones, uint32_t at)
{
	if (clones < wanted)
		return want->ranks / clones + (at < want->ranks % clones);
	return at < clones - 1 ? want->per_clone : want->ranks - (clones - 1) * want->per_clone;
}

static void say_grant(struct group *group, const struct mpi_want *want, uint32_t wanted)
{
	struct mpi_grant grant = { .clones = group->clones, .wanted = wanted };
	_cleanup_free_ char *hosts = NULL;
	struct wire_payload payload = { 0 };
	size_t size, len = 0;
	FILE *text = open_memstream(&hosts, &size);

	for (uint32_t i = 0; text && i < group->clones; i++)
		fprintf(text, "%s%s:%u", i ? "," : "", group->members[i].address,
			ranks_of(want, wanted, group->clones, i));
	if (!text || fclose(text)) {
		payload.error = -ENOMEM;
	} else {
		len = size;
		wire_add(&payload, &grant, sizeof(grant));
		wire_add(&payload, hosts, len + 1);
	}
	log_info("group %u: %u clones, %u wanted", group->number, group->clones, wanted);
	peer_say(group->asker, MPI_GRANT, group->number, &payload);
}

/* Gives up on a ticket whose group cannot be had. */
static void abandon(const struct keeper_libsf *libsf, int ticket)
{
	if (libsf->kill_ticket(ticket) || libsf->ticket_free(ticket))
		log_warn("ticket %d stays: %s", ticket, libsf->error());
}

/* The clones are made: the group, its watcher, the answer. Return: 0 or -errno. */
static int found_group(struct peer *asker, int ticket, const struct mpi_want *want, uint32_t wanted)
{
	const struct keeper_libsf *libsf = asker->keeper->libsf;
	int made = libsf->count();
	struct group *group;
	int rc;

	if (made < 1 || (uint32_t)made > wanted || (uint32_t)made < want->min_clones) {
		abandon(libsf, ticket);
		refuse(asker, EHOSTDOWN, "fewer clones were made than are of use");
		return 0;
	}
	group = make_group(asker, ticket, (uint32_t)made);
	rc = group ? start_watcher(group) : -ENOMEM;
	if (rc) {
		if (group)
			forget_group(group);
		abandon(libsf, ticket);
		refuse(asker, -rc, "no memory for the clones");
		return 0;
	}
	say_grant(group, want, wanted);
	return 0;
}

/* A ticket for what is wanted, and the door for its clones. Return: it, or -errno with a sentence. */
static int get_ticket(struct keeper *keeper, const struct mpi_want *want, uint32_t wanted, char *why,
		      size_t len)
{
	struct sf_hints hints = SF_HINTS_INIT;
	int rc = keeper_open_tcp(keeper, why, len);

	if (rc)
		return rc;
	hints.per_host = want->per_host;
	hints.min = want->min_clones;
	rc = keeper->libsf->request_ticket(wanted < MPI_MAX_CLONES ? wanted : MPI_MAX_CLONES, &hints);
	if (rc < 0) {
		rc = -errno;
		snprintf(why, len, "%s", keeper->libsf->error());
	}
	return rc;
}

/* Return: 0 and *want, with no 0 in it where that stands for something; -EPROTO. */
static int take_want(const struct mpi_frame *frame, const uint8_t *payload, struct mpi_want *want)
{
	if (frame->length != sizeof(*want))
		return -EPROTO;
	memcpy(want, payload, sizeof(*want));
	if (!want->ranks || want->ranks > MPI_MAX_RANKS || want->per_clone > MPI_MAX_RANKS ||
	    want->min_clones > MPI_MAX_CLONES || want->per_host > MPI_MAX_CLONES)
		return -EPROTO;
	if (!want->per_clone)
		want->per_clone = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	return 0;
}

int groups_want(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct keeper *keeper = asker->keeper;
	struct mpi_want want;
	uint32_t wanted;
	char why[512];
	int ticket, rc = take_want(frame, payload, &want);

	if (rc)
		return rc;
	wanted = (want.ranks + want.per_clone - 1) / want.per_clone;
	ticket = get_ticket(keeper, &want, wanted, why, sizeof(why));
	if (ticket < 0) {
		refuse(asker, -ticket, why);
		return 0;
	}
	rc = clone_silently(asker, ticket, why, sizeof(why));
	if (!rc)
		return found_group(asker, ticket, &want, wanted);
	if (keeper->libsf->ticket_free(ticket))
		log_warn("ticket %d stays: %s", ticket, keeper->libsf->error());
	refuse(asker, -rc, why);
	return 0;
}

/* ---- DROP, END, and askers that go ---- */

/* The group that a frame of an asker is about. NULL: it has ended, or is another's. */
static struct group *group_of(struct peer *asker, const struct mpi_frame *frame)
{
	struct group *group = find_group(asker->keeper, frame->number);

	return group && group->asker == asker ? group : NULL;
}

static void leave_unused(struct group *group)
{
	for (uint32_t i = 0; i < group->clones; i++) {
		if (!group->members[i].started)
			member_leave(&group->members[i]);
	}
}

int groups_drop(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct group *group = group_of(asker, frame);

	(void)payload;
	if (group)
		leave_unused(group);
	return 0;
}

int groups_end(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload)
{
	struct group *group = group_of(asker, frame);

	(void)payload;
	for (uint32_t i = 0; group && i < group->clones; i++)
		member_leave(&group->members[i]);
	return 0;
}

void groups_lose_asker(struct peer *asker)
{
	for (struct group *g = asker->keeper->groups; g; g = g->next) {
		if (g->asker != asker)
			continue;
		g->asker = NULL;
		leave_unused(g);
	}
}

/* ---- executors ---- */

int groups_home(struct peer *executor, const struct mpi_hello *hello)
{
	struct group *group = find_group(executor->keeper, hello->group);
	struct member *member;

	if (!group || !hello->id || hello->id > group->clones)
		return -EPERM;
	member = &group->members[hello->id - 1];
	if (member->peer || member->mute || member->ended)
		return -EPERM;
	member->peer = executor;
	executor->member = member;
	log_debug("group %u: clone %u called home after %llu us", group->number, member->id,
		  (unsigned long long)(io_now_ns() - group->since_ns) / 1000);
	return 0;
}

void groups_lose_executor(struct peer *executor)
{
	struct member *member = executor->member;

	if (!member)
		return;
	executor->member = NULL;
	member->peer = NULL;
	if (!member->ended)
		member->mute_ns = io_now_ns() + MUTE_NS;
}

uint64_t groups_tick(struct keeper *keeper, uint64_t now_ns)
{
	uint64_t due_ns = UINT64_MAX;

	for (struct group *g = keeper->groups; g; g = g->next) {
		for (uint32_t i = 0; i < g->clones; i++) {
			struct member *m = &g->members[i];
			uint64_t at_ns = m->mute_ns ? m->mute_ns : g->since_ns + HOME_NS;

			if (m->ended || m->mute || m->peer)
				continue;
			if (at_ns <= now_ns)
				member_mute(m, m->mute_ns ? "has lost its connection" :
							    "did not call home");
			else if (at_ns < due_ns)
				due_ns = at_ns;
		}
	}
	return due_ns;
}
