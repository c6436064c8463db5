/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In the parent: the members' questions. One thread, one poll; a member waits for its answer, so
 * each has at most one question. Whoever cannot be answered yet waits in a state, and after each
 * question it is looked whether somebody else can be answered now.
 */
#define _GNU_SOURCE
#include "omp-shim/serve.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "omp-shim/rooms.h"
#include "omp-shim/wire.h"

#define LOOK_MS	    250 /* how often it is looked whether a clone has ended */
#define SEND_SECONDS 30

enum peer_state { PEER_AWAITED, PEER_RUNS, PEER_WAITS, PEER_DONE };

struct peer { /* a member */
	int sock;
	enum peer_state state;
	struct inbox inbox;
	struct omp_sync asks;	/* when it waits; native byte order */
	struct omp_place place; /* when it waits for an atomic's place */
	bool wants_place;
	uint8_t *output[2];
	size_t output_len[2];
};

struct stranger { /* connected, and has not said who it is */
	int sock;
	struct inbox inbox;
};

#define STRANGERS 16

struct printed {
	uint8_t *bytes[2];
	size_t len[2];
};

struct server {
	struct outcome *outcome;
	struct store *store;
	struct peer *peers;
	unsigned count;
	struct stranger strangers[STRANGERS];
	struct rooms rooms;	/* locks, loops, singles: what has a key */
	int place_owner;	/* the member whose atomic is under way; -1: none */
	struct pieces updates;
};

/* The region cannot be done: the first reason counts. */
static void give_up(struct server *s, enum omp_reason reason, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void give_up(struct server *s, enum omp_reason reason, const char *format, ...)
{
	va_list args;

	if (s->outcome->reason)
		return;
	s->outcome->reason = reason;
	va_start(args, format);
	vsnprintf(s->outcome->why, sizeof(s->outcome->why), format, args);
	va_end(args);
}

static void peer_lied(struct server *s, unsigned number)
{
	give_up(s, OMP_LOST, "member %u said what cannot be", number);
}

/* -- answers --------------------------------------------------------------------------------- */

static void send_to(struct server *s, unsigned number, enum omp_type type, const void *head,
		    size_t head_bytes, const void *tail, size_t tail_bytes)
{
	int rc = omp_send(s->peers[number].sock, type, head, head_bytes, tail, tail_bytes);

	if (rc)
		give_up(s, OMP_LOST, "member %u does not listen: %s", number, strerror(-rc));
	s->peers[number].state = PEER_RUNS;
}

/* The end of a synchronisation; `with_pieces`: and what others wrote. */
static void update(struct server *s, unsigned number, uint64_t value, bool with_pieces)
{
	struct omp_update head = { .value = htole64(value) };

	s->updates.len = 0;
	if (with_pieces && store_updates(s->store, number, &s->updates))
		give_up(s, OMP_TOO_MUCH, "no memory for what member %u has to see", number);
	send_to(s, number, OMP_UPDATE, &head, sizeof(head), s->updates.bytes, s->updates.len);
}

static void take_lock(struct server *s, unsigned number, struct room *room)
{
	room->owner = (int)number;
	store_acquire(s->store, number, room->clock);
	update(s, number, 1, true);
}

/* -- who waits for what ----------------------------------------------------------------------- */

/* All members that are not done wait at the barrier: each knows then what all know. */
static bool end_barrier(struct server *s)
{
	struct room *all;
	unsigned number, waiting = 0;

	for (number = 0; number < s->count; number++) {
		const struct peer *p = &s->peers[number];

		if (p->state == PEER_DONE)
			continue;
		if (p->state != PEER_WAITS || p->wants_place || p->asks.kind != OMP_BARRIER)
			return false;
		waiting++;
	}
	if (!waiting)
		return false;
	all = rooms_get(&s->rooms, ROOM_BARRIER, 0);
	if (!all) {
		give_up(s, OMP_TOO_MUCH, "no memory");
		return false;
	}
	for (number = 0; number < s->count; number++)
		store_release(s->store, number, all->clock);
	for (number = 0; number < s->count; number++) {
		if (s->peers[number].state == PEER_DONE)
			continue;
		store_acquire(s->store, number, all->clock);
		update(s, number, 0, true);
	}
	return true;
}

static void give_copy(struct server *s, unsigned number, const struct room *room)
{
	struct omp_update head = { .value = htole64(room->value) };

	send_to(s, number, OMP_UPDATE, &head, sizeof(head), room->stack, room->stack_bytes);
}

/* copyprivate: the stack is kept as it is. */
static void keep_copy(struct server *s, unsigned number, const struct omp_sync *ask,
		      const uint8_t *pieces, size_t len)
{
	struct room *room = rooms_get(&s->rooms, ROOM_SINGLE, ask->key);

	if (!room)
		return give_up(s, OMP_TOO_MUCH, "no memory");
	if (room->owner != (int)number || room->set || len > OMP_MAX_COPY)
		return peer_lied(s, number);
	room->stack = malloc(len + 1);
	if (!room->stack)
		return give_up(s, OMP_TOO_MUCH, "no memory");
	memcpy(room->stack, pieces, len);
	room->stack_bytes = len;
	room->value = ask->value;
	room->set = true;
	update(s, number, 0, false);
}

/* Return: true if the member that waits was answered. */
static bool try_answer(struct server *s, unsigned number)
{
	struct peer *p = &s->peers[number];
	struct room *room;

	switch (p->asks.kind) {
	case OMP_LOCK:
		room = rooms_get(&s->rooms, ROOM_LOCK, p->asks.key);
		if (!room || room->owner >= 0)
			return false;
		take_lock(s, number, room);
		return true;
	case OMP_COPY:
		room = rooms_get(&s->rooms, ROOM_SINGLE, p->asks.key);
		if (!room || !room->set)
			return false;
		give_copy(s, number, room);
		return true;
	case OMP_ORDERED:
		room = rooms_get(&s->rooms, ROOM_ORDERED, p->asks.key);
		if (!room || room->value != p->asks.value)
			return false;
		store_acquire(s->store, number, room->clock);
		update(s, number, 0, true);
		return true;
	default:
		return false;
	}
}

static bool try_place(struct server *s, unsigned number)
{
	struct peer *p = &s->peers[number];
	uint8_t bytes[OMP_MAX_ATOMIC];
	int rc;

	if (s->place_owner >= 0)
		return false;
	rc = store_fetch(s->store, number, p->place.address, bytes, p->place.bytes);
	if (rc == -EFAULT)
		peer_lied(s, number);
	else if (rc)
		give_up(s, rc == -EEXIST ? OMP_CONFLICT : OMP_TOO_MUCH,
			"member %u's atomic operation at %#llx: %s", number,
			(unsigned long long)p->place.address, strerror(-rc));
	s->place_owner = (int)number;
	p->wants_place = false;
	send_to(s, number, OMP_VALUE, bytes, p->place.bytes, NULL, 0);
	return true;
}

/* Something has changed: answers all that can be answered now. */
static void look_around(struct server *s)
{
	bool again = true;

	while (again && !s->outcome->reason) {
		again = false;
		for (unsigned number = 0; number < s->count; number++) {
			if (s->peers[number].state != PEER_WAITS)
				continue;
			again |= s->peers[number].wants_place ? try_place(s, number)
							      : try_answer(s, number);
		}
		again |= end_barrier(s);
	}
}

/* -- questions ------------------------------------------------------------------------------- */

/* Puts in what a member wrote. Return: false if that ends the region. */
static bool merge(struct server *s, unsigned number, const uint8_t *pieces, size_t len)
{
	uint64_t address = 0;
	int rc;

	if (!pieces_check(pieces, len, &omp_team.ranges))
		return peer_lied(s, number), false;
	rc = store_merge(s->store, number, pieces, len, &address);
	if (rc == -EEXIST)
		give_up(s, OMP_CONFLICT, "member %u and another wrote different things to %#llx",
			number, (unsigned long long)address);
	else if (rc)
		give_up(s, OMP_TOO_MUCH, "no memory for what member %u wrote", number);
	return !rc;
}

static void unlock(struct server *s, unsigned number, struct room *room)
{
	if (room->owner != (int)number)
		return peer_lied(s, number);
	store_release(s->store, number, room->clock);
	room->owner = -1;
	update(s, number, 0, false);
}

/* A synchronisation that is answered at once, or never waits. Return: false if it has to wait. */
static bool answer_sync(struct server *s, unsigned number, const struct omp_sync *ask)
{
	static const enum room_kind kinds[OMP_SYNC_KINDS] = {
		[OMP_LOCK] = ROOM_LOCK,	      [OMP_TRYLOCK] = ROOM_LOCK,   [OMP_UNLOCK] = ROOM_LOCK,
		[OMP_SINGLE] = ROOM_SINGLE,   [OMP_COPY] = ROOM_SINGLE,
		[OMP_ORDERED] = ROOM_ORDERED, [OMP_ORDERED_END] = ROOM_ORDERED,
	};
	struct room *room = kinds[ask->kind] ? rooms_get(&s->rooms, kinds[ask->kind], ask->key) : NULL;

	if (kinds[ask->kind] && !room)
		return give_up(s, OMP_TOO_MUCH, "no memory"), true;
	switch ((enum omp_sync_kind)ask->kind) {
	case OMP_TRYLOCK:
		if (room->owner >= 0)
			update(s, number, 0, false);
		else
			take_lock(s, number, room);
		return true;
	case OMP_UNLOCK:
		unlock(s, number, room);
		return true;
	case OMP_FLUSH:
		update(s, number, 0, true);
		return true;
	case OMP_SINGLE:
		update(s, number, room->owner < 0, false);
		room->owner = room->owner < 0 ? (int)number : room->owner;
		return true;
	case OMP_ORDERED_END:
		room->value = ask->value + 1;
		store_release(s->store, number, room->clock);
		update(s, number, 0, false);
		return true;
	default:
		return false;
	}
}

static void on_sync(struct server *s, unsigned number, const struct omp_frame *frame,
		    const uint8_t *payload)
{
	struct peer *p = &s->peers[number];
	struct omp_sync ask;

	if (frame->length < sizeof(ask))
		return peer_lied(s, number);
	memcpy(&ask, payload, sizeof(ask));
	ask.kind = le32toh(ask.kind);
	ask.key = le64toh(ask.key);
	ask.value = le64toh(ask.value);
	if (!ask.kind || ask.kind >= OMP_SYNC_KINDS)
		return peer_lied(s, number);
	if (ask.kind == OMP_COPY_SET)
		return keep_copy(s, number, &ask, payload + sizeof(ask),
				 frame->length - sizeof(ask));
	if (!merge(s, number, payload + sizeof(ask), frame->length - sizeof(ask)) ||
	    frame->flags & OMP_MORE)
		return;
	s->outcome->syncs++;
	p->asks = ask;
	p->wants_place = false;
	p->state = PEER_WAITS;
	answer_sync(s, number, &ask);
}

static void on_chunk(struct server *s, unsigned number, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	struct omp_chunk ask;
	struct omp_range range;
	struct room *loop;

	if (frame->length != sizeof(ask))
		return peer_lied(s, number);
	memcpy(&ask, payload, sizeof(ask));
	loop = rooms_get(&s->rooms, ROOM_LOOP, le64toh(ask.key));
	if (!loop)
		return give_up(s, OMP_TOO_MUCH, "no memory");
	if (!loop->set) {
		loop->set = true;
		loop->iterations = le64toh(ask.iterations);
	}
	if (le64toh(ask.iterations) != loop->iterations || !ask.chunk)
		return peer_lied(s, number);
	room_chunk(loop, le64toh(ask.chunk), le32toh(ask.schedule) == OMP_GUIDED, s->count, &range);
	range.begin = htole64(range.begin);
	range.end = htole64(range.end);
	send_to(s, number, OMP_RANGE, &range, sizeof(range), NULL, 0);
}

static bool read_place(struct omp_place *place, const struct omp_frame *frame,
		       const uint8_t *payload)
{
	if (frame->length < sizeof(*place))
		return false;
	memcpy(place, payload, sizeof(*place));
	place->address = le64toh(place->address);
	place->bytes = le32toh(place->bytes);
	return place->bytes && place->bytes <= OMP_MAX_ATOMIC;
}

static void on_fetch(struct server *s, unsigned number, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	struct peer *p = &s->peers[number];

	if (!read_place(&p->place, frame, payload) || s->place_owner == (int)number)
		return peer_lied(s, number);
	p->wants_place = true;
	p->state = PEER_WAITS;
}

static void on_store(struct server *s, unsigned number, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	const struct peer *p = &s->peers[number];
	struct omp_place place;
	int rc;

	if (!read_place(&place, frame, payload) || s->place_owner != (int)number ||
	    place.address != p->place.address || place.bytes != p->place.bytes ||
	    frame->length != sizeof(place) + place.bytes)
		return peer_lied(s, number);
	rc = store_atomic(s->store, number, place.address, payload + sizeof(place), place.bytes);
	if (rc)
		give_up(s, rc == -EEXIST ? OMP_CONFLICT : OMP_TOO_MUCH,
			"member %u's atomic operation at %#llx: %s", number,
			(unsigned long long)place.address, strerror(-rc));
	s->place_owner = -1;
	update(s, number, 0, false);
}

static void on_output(struct server *s, unsigned number, const struct omp_frame *frame,
		      const uint8_t *payload)
{
	struct peer *p = &s->peers[number];
	struct omp_output head;
	size_t len = frame->length - sizeof(head), have;
	unsigned which;
	uint8_t *grown;

	if (frame->length < sizeof(head))
		return peer_lied(s, number);
	memcpy(&head, payload, sizeof(head));
	which = le32toh(head.fd) - 1;
	if (which > 1 || len > OMP_MAX_OUTPUT || p->output_len[which] + len > OMP_MAX_OUTPUT)
		return peer_lied(s, number);
	have = p->output_len[which];
	grown = realloc(p->output[which], have + len + 1);
	if (!grown)
		return give_up(s, OMP_TOO_MUCH, "no memory for what member %u printed", number);
	memcpy(grown + have, payload + sizeof(head), len);
	p->output[which] = grown;
	p->output_len[which] = have + len;
}

static void on_frees(struct server *s, unsigned number, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	struct outcome *o = s->outcome;
	size_t count = frame->length / sizeof(uint64_t);
	uint64_t *grown;

	if (frame->length % sizeof(uint64_t))
		return peer_lied(s, number);
	grown = reallocarray(o->frees, o->free_count + count, sizeof(*grown));
	if (!grown && count)
		return give_up(s, OMP_TOO_MUCH, "no memory for what member %u freed", number);
	o->frees = grown;
	memcpy(grown + o->free_count, payload, frame->length);
	o->free_count += count;
}

static void on_done(struct server *s, unsigned number, const struct omp_frame *frame,
		    const uint8_t *payload)
{
	struct peer *p = &s->peers[number];
	struct omp_done done;

	if (frame->length < sizeof(done))
		return peer_lied(s, number);
	memcpy(&done, payload, sizeof(done));
	if (!merge(s, number, payload + sizeof(done), frame->length - sizeof(done)) ||
	    frame->flags & OMP_MORE)
		return;
	s->outcome->member_cpu_ns += le64toh(done.cpu_ns);
	s->outcome->pages += le64toh(done.page_count);
	update(s, number, 0, false); /* it may go now: all has arrived */
	p->state = PEER_DONE;
}

static void on_fail(struct server *s, unsigned number, const struct omp_frame *frame,
		    const uint8_t *payload)
{
	struct omp_fail fail;

	if (frame->length < sizeof(fail) + 1 || payload[frame->length - 1])
		return peer_lied(s, number);
	memcpy(&fail, payload, sizeof(fail));
	fail.reason = le32toh(fail.reason);
	if (!fail.reason || fail.reason >= OMP_REASONS)
		return peer_lied(s, number);
	give_up(s, fail.reason, "member %u: %s", number, (const char *)payload + sizeof(fail));
}

static void on_frame(struct server *s, unsigned number, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	static void (*const handlers[OMP_TYPES])(struct server *, unsigned, const struct omp_frame *,
						 const uint8_t *) = {
		[OMP_SYNC] = on_sync,	  [OMP_CHUNK] = on_chunk, [OMP_FETCH] = on_fetch,
		[OMP_STORE] = on_store,	  [OMP_OUTPUT] = on_output, [OMP_FREES] = on_frees,
		[OMP_DONE] = on_done,	  [OMP_FAIL] = on_fail,
	};

	if (!handlers[frame->type] || s->peers[number].state != PEER_RUNS)
		return peer_lied(s, number);
	handlers[frame->type](s, number, frame, payload);
}

/* -- connections ----------------------------------------------------------------------------- */

static void take_frames(struct server *s, unsigned number);

/* A connection that says who it is becomes a member's. Return: false if it is to be closed. */
static bool on_hello(struct server *s, struct stranger *from, const struct omp_frame *frame,
		     const uint8_t *payload)
{
	struct omp_hello hello;
	struct peer *p;

	if (frame->type != OMP_HELLO || frame->length != sizeof(hello))
		return false;
	memcpy(&hello, payload, sizeof(hello));
	if (le32toh(hello.magic) != OMP_MAGIC || le32toh(hello.version) != OMP_VERSION ||
	    le64toh(hello.region) != omp_team.region || le32toh(hello.member) >= s->count ||
	    memcmp(hello.token, omp_team.token, sizeof(hello.token)))
		return false;
	p = &s->peers[le32toh(hello.member)];
	if (p->state != PEER_AWAITED)
		return false;
	p->sock = steal_fd(&from->sock);
	p->inbox = from->inbox;
	memset(&from->inbox, 0, sizeof(from->inbox));
	p->state = PEER_RUNS;
	if (!s->outcome->first_hello_ns)
		s->outcome->first_hello_ns = io_now_ns();
	take_frames(s, le32toh(hello.member)); /* what came right behind it */
	return true;
}

static void close_stranger(struct stranger *stranger)
{
	cleanup_close(&stranger->sock);
	stranger->sock = -1;
	inbox_fini(&stranger->inbox);
}

static void on_stranger(struct server *s, struct stranger *from)
{
	struct omp_frame frame;
	const uint8_t *payload;
	int rc = inbox_fill(&from->inbox, from->sock);

	if (!rc)
		rc = inbox_next(&from->inbox, &frame, &payload);
	if (rc < 0 || (rc && !on_hello(s, from, &frame, payload)) ||
	    from->inbox.len > 2 * sizeof(struct omp_hello))
		close_stranger(from);
}

static void on_connection(struct server *s, int listener)
{
	struct timeval limit = { .tv_sec = SEND_SECONDS };
	int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC), one = 1;

	if (sock < 0)
		return;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	for (unsigned i = 0; i < STRANGERS; i++) {
		if (s->strangers[i].sock < 0) {
			s->strangers[i].sock = sock;
			return;
		}
	}
	close(sock);
}

/* Takes the frames that are there. */
static void take_frames(struct server *s, unsigned number)
{
	struct peer *p = &s->peers[number];
	struct omp_frame frame;
	const uint8_t *payload;
	int rc = 0;

	while (p->state != PEER_DONE && !s->outcome->reason &&
	       (rc = inbox_next(&p->inbox, &frame, &payload)) > 0)
		on_frame(s, number, &frame, payload);
	if (rc < 0)
		peer_lied(s, number);
}

static void on_member(struct server *s, unsigned number)
{
	struct peer *p = &s->peers[number];
	size_t before = p->inbox.len;
	int rc = inbox_fill(&p->inbox, p->sock);

	s->outcome->received_bytes += rc ? 0 : p->inbox.len - before;
	take_frames(s, number);
	if (rc && p->state != PEER_DONE)
		give_up(s, OMP_LOST, "member %u is gone: %s", number, strerror(-rc));
}

/* A clone that was lost does not close its connection, or never had one. */
static void look_for_the_lost(struct server *s)
{
	char why[SERVE_WHY - 64] = "";

	for (unsigned number = 0; number < s->count; number++) {
		if (s->peers[number].state != PEER_DONE &&
		    omp_team.ways->ended(number, why, sizeof(why)))
			give_up(s, OMP_LOST, "member %u was lost: %s", number, why);
	}
}

static bool all_done(const struct server *s)
{
	for (unsigned number = 0; number < s->count; number++) {
		if (s->peers[number].state != PEER_DONE)
			return false;
	}
	return true;
}

/* One turn: waits, and takes what came. */
static void turn(struct server *s, int listener, struct pollfd *polled)
{
	nfds_t count = 0;
	uint64_t begin = io_now_ns();
	int ready;

	polled[count++] = (struct pollfd){ .fd = listener, .events = POLLIN };
	for (unsigned i = 0; i < STRANGERS; i++)
		polled[count++] = (struct pollfd){ .fd = s->strangers[i].sock, .events = POLLIN };
	for (unsigned i = 0; i < s->count; i++)
		polled[count++] = (struct pollfd){
			.fd = s->peers[i].state == PEER_DONE ? -1 : s->peers[i].sock,
			.events = POLLIN,
		};
	ready = poll(polled, count, LOOK_MS);
	if (ready <= 0) {
		if (!ready || io_now_ns() - begin > LOOK_MS * 1000000ull)
			look_for_the_lost(s);
		return;
	}
	for (unsigned i = 0; i < s->count && !s->outcome->reason; i++) {
		if (polled[1 + STRANGERS + i].revents)
			on_member(s, i);
	}
	for (unsigned i = 0; i < STRANGERS; i++) {
		if (polled[1 + i].revents)
			on_stranger(s, &s->strangers[i]);
	}
	if (polled[0].revents)
		on_connection(s, listener);
	look_around(s);
}

static void keep_output(struct server *s)
{
	for (unsigned i = 0; i < s->count; i++) {
		for (unsigned which = 0; which < 2; which++) {
			s->outcome->printed[i].bytes[which] = s->peers[i].output[which];
			s->outcome->printed[i].len[which] = s->peers[i].output_len[which];
		}
	}
}

static void serve_all(struct server *s, int listener)
{
	_cleanup_free_ struct pollfd *polled = calloc(1 + STRANGERS + s->count, sizeof(*polled));

	if (!polled)
		return give_up(s, OMP_TOO_MUCH, "no memory");
	while (!s->outcome->reason && !all_done(s))
		turn(s, listener, polled);
	s->outcome->last_done_ns = io_now_ns();
	keep_output(s);
}

void serve(int listener, struct store *store, struct outcome *outcome)
{
	struct server s = { .outcome = outcome, .store = store, .count = omp_team.members,
			    .place_owner = -1 };

	memset(outcome, 0, sizeof(*outcome));
	outcome->members = s.count;
	outcome->printed = calloc(s.count, sizeof(*outcome->printed));
	s.peers = calloc(s.count, sizeof(*s.peers));
	for (unsigned i = 0; i < STRANGERS; i++)
		s.strangers[i].sock = -1;
	if (s.peers && outcome->printed && !rooms_init(&s.rooms, s.count)) {
		for (unsigned i = 0; i < s.count; i++)
			s.peers[i].sock = -1;
		serve_all(&s, listener);
		for (unsigned i = 0; i < s.count; i++) {
			cleanup_close(&s.peers[i].sock);
			inbox_fini(&s.peers[i].inbox);
		}
		rooms_fini(&s.rooms);
	} else {
		give_up(&s, OMP_TOO_MUCH, "no memory");
	}
	for (unsigned i = 0; i < STRANGERS; i++)
		close_stranger(&s.strangers[i]);
	pieces_fini(&s.updates);
	free(s.peers);
}

/* -- afterwards ------------------------------------------------------------------------------ */

void serve_release(struct outcome *outcome)
{
	for (unsigned i = 0; i < outcome->members; i++) {
		for (unsigned which = 0; which < 2; which++)
			io_write_full((int)which + 1, outcome->printed[i].bytes[which],
				      outcome->printed[i].len[which]);
	}
	for (size_t i = 0; i < outcome->free_count; i++)
		free((void *)(uintptr_t)le64toh(outcome->frees[i]));
}

void serve_fini(struct outcome *outcome)
{
	for (unsigned i = 0; outcome->printed && i < outcome->members; i++) {
		free(outcome->printed[i].bytes[0]);
		free(outcome->printed[i].bytes[1]);
	}
	free(outcome->printed);
	free(outcome->frees);
}
