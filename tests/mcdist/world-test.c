/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The simulated world keeps its own promises: time, room, loss, groups. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "tests/mcdist/sim.h"
#include "tests/mcdist/suite.h"

#define GBIT 1000000000ull
#define SECOND_NS 1000000000ull
#define HEARERS 3u
#define DATAGRAM_BYTES 4192u	/* 4200 with UDP's header, in 3 frames: 4374 on the wire */
#define WIRE_BYTES 4374u

/* An endpoint that counts, and sends as fast as it can if it is told to. */
struct ear {
	struct mc_transport *t;
	struct mc_address to;
	uint64_t heard, first_ns, last_ns, out_of_order;
	uint32_t newest, to_send, sent;
	uint64_t refused;
};

struct world {
	struct sim *sim;
	struct ear mouth, ears[HEARERS];
};

static void on_received(void *arg, const struct mc_address *from, uint8_t *bytes, size_t len)
{
	struct ear *ear = arg;
	uint32_t number;

	(void)from;
	CU_ASSERT_EQUAL(len, DATAGRAM_BYTES);
	memcpy(&number, bytes, sizeof(number));
	ear->last_ns = ear->t->calls->now_ns(ear->t);
	if (!ear->heard++)
		ear->first_ns = ear->last_ns;
	if (number < ear->newest)
		ear->out_of_order++;
	else
		ear->newest = number;
}

static void on_writable(void *arg)
{
	uint8_t bytes[DATAGRAM_BYTES] = { 0 };
	struct ear *ear = arg;

	while (ear->sent < ear->to_send) {
		int error;

		memcpy(bytes, &ear->sent, sizeof(ear->sent));
		error = ear->t->calls->send(ear->t, &ear->to, bytes, sizeof(bytes));
		if (error) {
			CU_ASSERT_EQUAL(error, -EAGAIN);
			ear->refused++;
			return;
		}
		ear->sent++;
	}
}

static const struct mc_transport_events events = { .received = on_received,
						   .writable = on_writable };

static void ear_init(struct world *w, struct ear *ear, const struct sim_host_config *config)
{
	ear->t = sim_endpoint_add(w->sim, sim_host_add(w->sim, config));
	CU_ASSERT_PTR_NOT_NULL_FATAL(ear->t);
	ear->t->events = &events;
	ear->t->arg = ear;
}

static void world_init(struct world *w, const struct sim_host_config *config)
{
	memset(w, 0, sizeof(*w));
	w->sim = sim_create(7);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w->sim);
	ear_init(w, &w->mouth, config);
	for (unsigned i = 0; i < HEARERS; i++)
		ear_init(w, &w->ears[i], config);
	w->mouth.to = sim_endpoint_address(w->ears[0].t);
}

/* Sends so many and waits until nothing happens any more. */
static void say(struct world *w, uint32_t datagrams)
{
	const bool never = false;

	w->mouth.to_send += datagrams;
	on_writable(&w->mouth);
	CU_ASSERT_EQUAL(sim_run(w->sim, &never, 1000 * SECOND_NS), -EPIPE);
}

static void world_fini(struct world *w)
{
	sim_destroy(w->sim);
}

static struct sim_host_config plain_host(void)
{
	struct sim_host_config config = sim_host_of_today(GBIT);

	config.jitter_ns = 0;
	return config;
}

static void test_bytes_take_their_time(void)
{
	struct sim_host_config config = plain_host();
	uint64_t wire_ns = WIRE_BYTES * 8ull, cost_ns;
	struct world w;

	world_init(&w, &config);
	say(&w, 10000);
	cost_ns = config.receive_ns + config.receive_kib_ns * DATAGRAM_BYTES / 1024;
	CU_ASSERT_EQUAL(w.ears[0].heard, 10000);
	CU_ASSERT_EQUAL(w.ears[0].first_ns, 2 * wire_ns + 2 * config.delay_ns + cost_ns);
	CU_ASSERT_EQUAL(w.ears[0].last_ns - w.ears[0].first_ns, 9999 * wire_ns);
	CU_ASSERT(w.mouth.refused > 0);
	CU_ASSERT_EQUAL(sim_host_counters(w.sim, 0)->sent_bytes, 10000ull * WIRE_BYTES);
	CU_ASSERT_EQUAL(sim_host_counters(w.sim, 1)->received_bytes, 10000ull * WIRE_BYTES);
	world_fini(&w);
}

/* One copy out of the sender, one to each member, none to others. */
static void test_groups(void)
{
	struct sim_host_config config = plain_host();
	struct world w;

	world_init(&w, &config);
	w.mouth.to = sim_group_address(3);
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(w.ears[i].t->calls->join(w.ears[i].t, &w.mouth.to, true), 0);
	CU_ASSERT_EQUAL(w.mouth.t->calls->join(w.mouth.t, &w.mouth.to, true), 0);
	say(&w, 100);
	CU_ASSERT_EQUAL(sim_host_counters(w.sim, 0)->sent_bytes, 100 * WIRE_BYTES);
	CU_ASSERT_EQUAL(w.mouth.heard, 0);
	CU_ASSERT_EQUAL(w.ears[0].heard, 100);
	CU_ASSERT_EQUAL(w.ears[1].heard, 100);
	CU_ASSERT_EQUAL(w.ears[2].heard, 0);
	CU_ASSERT_EQUAL(w.ears[0].t->calls->join(w.ears[0].t, &w.mouth.to, false), 0);
	say(&w, 100);
	CU_ASSERT_EQUAL(w.ears[0].heard, 100);
	CU_ASSERT_EQUAL(w.ears[1].heard, 200);
	world_fini(&w);
}

static void test_full_buffers_lose(void)
{
	struct sim_host_config config = plain_host();
	const struct sim_counters *slow, *narrow;
	struct world w;

	world_init(&w, &config);
	w.mouth.to = sim_group_address(1);
	for (unsigned i = 0; i < HEARERS; i++)
		w.ears[i].t->calls->join(w.ears[i].t, &w.mouth.to, true);
	sim_host_config(w.sim, 1)->receive_ns = 1000000;
	sim_host_config(w.sim, 2)->bits_per_s = GBIT / 10;
	say(&w, 10000);
	slow = sim_host_counters(w.sim, 1);
	narrow = sim_host_counters(w.sim, 2);
	CU_ASSERT(slow->overflowed_socket > 0);
	CU_ASSERT_EQUAL(w.ears[0].heard + slow->overflowed_socket, 10000);
	CU_ASSERT(narrow->overflowed_port > 0);
	CU_ASSERT_EQUAL(w.ears[1].heard + narrow->overflowed_port, 10000);
	CU_ASSERT_EQUAL(w.ears[2].heard, 10000);
	world_fini(&w);
}

static void test_loss_duplicates_order(void)
{
	struct sim_host_config config = plain_host();
	struct world w;

	config.loss_ppm = 50000;
	config.duplicate_ppm = 20000;
	config.late_ppm = 10000;
	world_init(&w, &config);
	say(&w, 20000);
	CU_ASSERT(sim_host_counters(w.sim, 1)->lost > 800);
	CU_ASSERT(sim_host_counters(w.sim, 1)->lost < 1200);
	CU_ASSERT(w.ears[0].heard > 20000 - 1200 + 300);
	CU_ASSERT(w.ears[0].heard < 20000 - 800 + 500);
	CU_ASSERT(w.ears[0].out_of_order > 100);
	world_fini(&w);
}

static void test_a_host_that_is_off(void)
{
	struct sim_host_config config = plain_host();
	struct world w;

	world_init(&w, &config);
	sim_host_power(w.sim, 1, false);
	say(&w, 10);
	CU_ASSERT_EQUAL(w.ears[0].heard, 0);
	sim_host_power(w.sim, 1, true);
	say(&w, 10);
	CU_ASSERT_EQUAL(w.ears[0].heard, 10);
	sim_host_power(w.sim, 0, false);
	CU_ASSERT_EQUAL(w.mouth.t->calls->send(w.mouth.t, &w.mouth.to, &config, 9), -ENETDOWN);
	world_fini(&w);
}

struct bell {
	struct mc_timer timer;
	struct mc_transport *t;
	unsigned rings;
	uint64_t at_ns;
};

static void on_bell(void *arg)
{
	struct bell *bell = arg;

	bell->at_ns = bell->t->calls->now_ns(bell->t);
	if (bell->rings++ == 0)
		bell->t->calls->timer_set(bell->t, &bell->timer, MC_NEXT_TURN);
}

static void test_timers(void)
{
	struct sim_host_config config = plain_host();
	struct bell early = { .timer = { .fire = on_bell } }, late = early, never = early;
	struct bell *bells[] = { &late, &early, &never };
	struct world w;

	world_init(&w, &config);
	for (unsigned i = 0; i < ARRAY_SIZE(bells); i++) {
		bells[i]->t = w.mouth.t;
		bells[i]->timer.arg = bells[i];
		w.mouth.t->calls->timer_set(w.mouth.t, &bells[i]->timer, 1000 * (i + 1));
	}
	w.mouth.t->calls->timer_set(w.mouth.t, &late.timer, 9000);
	w.mouth.t->calls->timer_set(w.mouth.t, &never.timer, MC_NEVER);
	say(&w, 0);
	CU_ASSERT_EQUAL(early.at_ns, 2000);
	CU_ASSERT_EQUAL(early.rings, 2);
	CU_ASSERT_EQUAL(late.at_ns, 9000);
	CU_ASSERT_EQUAL(late.rings, 2);
	CU_ASSERT_EQUAL(never.rings, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bells); i++)
		w.mouth.t->calls->timer_free(w.mouth.t, &bells[i]->timer);
	world_fini(&w);
}

/* Timers of a host that is off wait; of a busy one, too, but not for ever. */
static void test_timers_wait(void)
{
	struct sim_host_config config = plain_host();
	struct bell bell = { .timer = { .fire = on_bell }, .rings = 1 };
	struct world w;

	world_init(&w, &config);
	sim_host_config(w.sim, 1)->receive_ns = 1000000;
	bell.t = w.ears[0].t;
	bell.timer.arg = &bell;
	bell.t->calls->timer_set(bell.t, &bell.timer, 10000000);
	say(&w, 100);
	CU_ASSERT(bell.at_ns >= 10000000 && bell.at_ns < 13000000);
	sim_host_power(w.sim, 1, false);
	bell.t->calls->timer_set(bell.t, &bell.timer, SECOND_NS);
	say(&w, 0);
	CU_ASSERT_EQUAL(bell.rings, 2);
	sim_host_power(w.sim, 1, true);
	say(&w, 0);
	CU_ASSERT_EQUAL(bell.rings, 3);
	bell.t->calls->timer_free(bell.t, &bell.timer);
	world_fini(&w);
}

static const struct test tests[] = {
	{ "bytes take their time", test_bytes_take_their_time },
	{ "groups", test_groups },
	{ "full buffers lose", test_full_buffers_lose },
	{ "loss, duplicates, order", test_loss_duplicates_order },
	{ "a host that is off", test_a_host_that_is_off },
	{ "timers", test_timers },
	{ "timers wait", test_timers_wait },
};

int main(int argc, char **argv)
{
	return run_tests("world", tests, ARRAY_SIZE(tests), argc, argv);
}
