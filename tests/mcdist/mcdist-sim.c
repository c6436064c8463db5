/* SPDX-License-Identifier: GPL-2.0-or-later */
/* mcdist-sim: one snapshot, many hosts, in simulated time; prints what it took. */
#include "config.h"

#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "host/mcdist/mcdist.h"
#include "tests/mcdist/crowd.h"

struct options {
	struct sim_host_config host;
	struct crowd_config crowd;
	uint64_t seed, limit_ns;
	bool json;
};

/* Options with a number; `scale` makes the field's unit of the option's. */
struct number {
	const char *name, *unit, *help;
	size_t offset;
	uint8_t bytes;
	uint64_t scale, most;
};

#define NUMBER(n, u, field, by, max, text)                                                   \
	{ n, u, text, offsetof(struct options, field), sizeof(((struct options *)0)->field), by, \
	  max }

static const struct number numbers[] = {
	NUMBER("hosts", "N", crowd.members, 1, MC_MAX_MEMBERS - 1, "hosts with clones"),
	NUMBER("clones", "N", crowd.clones, 1, 10000, "clones on each"),
	NUMBER("working", "PAGES", crowd.working, 1, 1 << 24, "that each clone touches"),
	NUMBER("ram", "PAGES", crowd.pages, 1, 1 << 24, "of the VM; 0: the working set"),
	NUMBER("zero", "PERCENT", crowd.zero_percent, 1, 100, "pages that are all zeros"),
	NUMBER("same", "PERCENT", crowd.same_percent, 1, 100, "pages that equal another"),
	NUMBER("think", "NS", crowd.think_ns, 1, 1000000000, "a clone's work at each page"),
	NUMBER("skew", "US", crowd.skew_ns, 1000, 100000000, "hosts, and clones, begin this late"),
	NUMBER("push", "PAGES/S", crowd.push_pages_per_s, 1, UINT32_MAX, "of all the rest"),
	NUMBER("mbit", "MBIT/S", host.bits_per_s, 1000000, 1000000, "each host's link"),
	NUMBER("delay", "US", host.delay_ns, 1000, 1000000, "to the switch, and from it"),
	NUMBER("jitter", "US", host.jitter_ns, 1000, 1000000, "more, at random"),
	NUMBER("loss", "PPM", host.loss_ppm, 1, SIM_MILLION, "datagrams lost, by each receiver"),
	NUMBER("late", "PPM", host.late_ppm, 1, SIM_MILLION, "datagrams overtaken"),
	NUMBER("twice", "PPM", host.duplicate_ppm, 1, SIM_MILLION, "datagrams that come twice"),
	NUMBER("port-buffer", "KB", host.port_bytes, 1024, 1 << 20, "of the switch, for each host"),
	NUMBER("receive-buffer", "KB", host.receive_bytes, 1024, 1 << 20, "of a socket"),
	NUMBER("seed", "N", seed, 1, UINT64_MAX, "of all that is random"),
	NUMBER("limit", "S", limit_ns, 1000000000, 1000000, "simulated time at most"),
};

#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))
#define OPTION_FIRST 256	/* keys of the numbers follow */

static const char *const mode_names[] = {
	[MC_UNICAST] = "unicast",
	[MC_MULTICAST] = "multicast",
	[MC_TREE] = "tree",
};
_Static_assert(sizeof(mode_names) / sizeof(mode_names[0]) == MC_MODES, "each has a name");

static const char *const order_names[] = {
	[CROWD_ROW] = "row",
	[CROWD_SAME] = "same",
	[CROWD_RANDOM] = "random",
};
_Static_assert(sizeof(order_names) / sizeof(order_names[0]) == CROWD_ORDERS, "each has a name");

static unsigned index_of(struct argp_state *state, const char *const *names, unsigned count,
			 const char *arg)
{
	for (unsigned i = 0; i < count; i++) {
		if (!strcmp(names[i], arg))
			return i;
	}
	argp_error(state, "%s: no such thing", arg);
	return 0;
}

static void parse_number(struct argp_state *state, const struct number *n, const char *arg)
{
	uint8_t *field = (uint8_t *)state->input + n->offset;
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(arg, &end, 10);
	if (errno || *end || end == arg || *arg == '-' || value > n->most) {
		argp_error(state, "--%s=%s: not a number up to %" PRIu64, n->name, arg, n->most);
		return;
	}
	if (n->bytes == sizeof(uint32_t))
		*(uint32_t *)field = (uint32_t)(value * n->scale);
	else
		*(uint64_t *)field = value * n->scale;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *o = state->input;

	if (key >= OPTION_FIRST && key < OPTION_FIRST + (int)NUMBERS) {
		parse_number(state, &numbers[key - OPTION_FIRST], arg);
		return 0;
	}
	switch (key) {
	case 'm':
		o->crowd.mode = (enum mc_mode)index_of(state, mode_names, MC_MODES, arg);
		return 0;
	case 'o':
		o->crowd.order = (enum crowd_order)index_of(state, order_names, CROWD_ORDERS, arg);
		return 0;
	case 'z':
		o->crowd.compress = true;
		return 0;
	case 's':
		o->crowd.sealed = true;
		return 0;
	case 'j':
		o->json = true;
		return 0;
	case ARGP_KEY_END:
		if (!o->crowd.pages)
			o->crowd.pages = o->crowd.working;
		if (!o->crowd.members || !o->crowd.clones || !o->crowd.working ||
		    o->crowd.working > o->crowd.pages || !o->host.bits_per_s)
			argp_error(state, "hosts, clones, pages and bits cannot be none, nor the "
					  "working set larger than the RAM");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void options_table(struct argp_option table[NUMBERS + 6])
{
	static const struct argp_option words[] = {
		{ "mode", 'm', "MODE", 0, "unicast, multicast or tree", 0 },
		{ "order", 'o', "ORDER", 0, "row, same or random: how clones touch pages", 0 },
		{ "compress", 'z', NULL, 0, "LZ4 and references", 0 },
		{ "sealed", 's', NULL, 0, "datagrams are really encrypted", 0 },
		{ "json", 'j', NULL, 0, "print JSON", 0 },
		{ 0 },
	};

	for (unsigned i = 0; i < NUMBERS; i++)
		table[i] = (struct argp_option){ .name = numbers[i].name,
						 .key = OPTION_FIRST + (int)i,
						 .arg = numbers[i].unit,
						 .doc = numbers[i].help };
	memcpy(&table[NUMBERS], words, sizeof(words));
}

struct outcome {
	int error;		/* of sim_run() */
	struct crowd_result crowd;
	struct sim_counters source, members;
	uint64_t cpu_ns;
};

/* What this process has had of a processor. */
static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static int run(const struct options *o, struct outcome *out)
{
	uint64_t began_ns = processor_ns();
	struct crowd_config config = o->crowd;
	struct sim *sim = sim_create(o->seed);
	struct crowd *crowd;

	if (!sim)
		return -ENOMEM;
	config.first = 1;
	for (uint32_t i = 0; i <= config.members; i++) {
		if (sim_host_add(sim, &o->host) == UINT32_MAX)
			return -ENOMEM;
	}
	crowd = crowd_create(sim, &config);
	if (!crowd)
		return -ENOMEM;
	out->error = sim_run(sim, crowd_is_done(crowd), o->limit_ns);
	out->crowd = crowd_result(crowd);
	out->source = *sim_host_counters(sim, 0);
	for (uint32_t i = 1; i <= config.members; i++) {
		const struct sim_counters *c = sim_host_counters(sim, i);

		out->members.sent_bytes += c->sent_bytes;
		out->members.sent_datagrams += c->sent_datagrams;
		out->members.received_bytes += c->received_bytes;
		out->members.received_datagrams += c->received_datagrams;
		out->members.lost += c->lost;
		out->members.overflowed_port += c->overflowed_port;
		out->members.overflowed_socket += c->overflowed_socket;
	}
	crowd_destroy(crowd);
	sim_destroy(sim);
	out->cpu_ns = processor_ns() - began_ns;
	return 0;
}

static uint64_t peak_memory_bytes(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)usage.ru_maxrss * 1024;
}

static void print_json(const struct options *o, const struct outcome *out)
{
	const struct crowd_result *r = &out->crowd;
	const struct {
		const char *name;
		uint64_t value;
	} fields[] = {
		{ "hosts", o->crowd.members },
		{ "clones", (uint64_t)o->crowd.members * o->crowd.clones },
		{ "working_pages", o->crowd.working },
		{ "bits_per_s", o->host.bits_per_s },
		{ "loss_ppm", o->host.loss_ppm },
		{ "seed", o->seed },
		{ "done_ns", r->done_ns },
		{ "source_sent_bytes", out->source.sent_bytes },
		{ "source_sent_datagrams", out->source.sent_datagrams },
		{ "source_received_datagrams", out->source.received_datagrams },
		{ "members_sent_bytes", out->members.sent_bytes },
		{ "members_received_bytes", out->members.received_bytes },
		{ "faults", r->faults },
		{ "fault_median_ns", r->median_ns },
		{ "fault_p99_ns", r->p99_ns },
		{ "fault_max_ns", r->max_ns },
		{ "lost", out->members.lost + out->source.lost },
		{ "overflowed_port", out->members.overflowed_port + out->source.overflowed_port },
		{ "overflowed_socket",
		  out->members.overflowed_socket + out->source.overflowed_socket },
		{ "retries", r->members.retries },
		{ "served", r->source.served },
		{ "multicast", r->source.multicast },
		{ "lockstep", r->source.lockstep },
		{ "relayed", r->members.relayed },
		{ "twice", r->twice },
		{ "wrong", r->wrong },
		{ "lacking", r->lacking },
		{ "cpu_ns", out->cpu_ns },
		{ "peak_memory_bytes", peak_memory_bytes() },
	};
	json_t *json = json_pack("{s:s, s:s}", "mode", mode_names[o->crowd.mode], "order",
				 order_names[o->crowd.order]);

	for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		json_object_set_new(json, fields[i].name,
				    json_integer((json_int_t)fields[i].value));
	json_dumpf(json, stdout, JSON_INDENT(1));
	putchar('\n');
	json_decref(json);
}

static void print_text(const struct options *o, const struct outcome *out)
{
	const struct crowd_result *r = &out->crowd;
	double set = (double)o->crowd.working * MC_PAGE_BYTES;

	printf("%s, %u hosts, %u clones, working set %.1f MB, %.1f Gbit/s, loss %.2f %%\n",
	       mode_names[o->crowd.mode], o->crowd.members, o->crowd.members * o->crowd.clones,
	       set / 1e6, (double)o->host.bits_per_s / 1e9, o->host.loss_ppm / 1e4);
	printf("  all done after   %.3f s\n", (double)r->done_ns / 1e9);
	printf("  source sent      %.1f MB in %" PRIu64 " datagrams: %.2f working sets\n",
	       (double)out->source.sent_bytes / 1e6, out->source.sent_datagrams,
	       (double)out->source.sent_bytes / set);
	printf("  members sent     %.1f MB in %" PRIu64 " datagrams\n",
	       (double)out->members.sent_bytes / 1e6, out->members.sent_datagrams);
	printf("  faults           %" PRIu64 ": median %.1f us, p99 %.1f us, longest %.1f us\n",
	       r->faults, (double)r->median_ns / 1e3, (double)r->p99_ns / 1e3,
	       (double)r->max_ns / 1e3);
	printf("  lost             %" PRIu64 " at random, %" PRIu64 " in the switch, %" PRIu64
	       " in receive buffers\n",
	       out->members.lost + out->source.lost,
	       out->members.overflowed_port + out->source.overflowed_port,
	       out->members.overflowed_socket + out->source.overflowed_socket);
	printf("  pages            asked for again %" PRIu64 ", came twice %" PRIu64
	       ", wrong %" PRIu64 ", lacking %" PRIu64 "\n",
	       r->members.retries, r->twice, r->wrong, r->lacking);
	printf("  source           pages %" PRIu64 ", to the group %" PRIu64 ", in lockstep %" PRIu64
	       "; by relays %" PRIu64 "\n",
	       r->source.served, r->source.multicast, r->source.lockstep, r->members.relayed);
	printf("  the simulation   took %.1f s, %.0f MB\n", (double)out->cpu_ns / 1e9,
	       (double)peak_memory_bytes() / 1e6);
}

int main(int argc, char **argv)
{
	struct options o = {
		.host = sim_host_of_today(10000000000ull),
		.crowd = { .members = 32, .clones = 10, .working = 2048, .think_ns = 20000,
			   .skew_ns = 10000000, .order = CROWD_SAME, .mode = MC_MULTICAST },
		.seed = 1,
		.limit_ns = 10000000000000ull,
	};
	struct argp_option table[NUMBERS + 6];
	const struct argp argp = { .options = table, .parser = parse,
				   .doc = "Distributes a snapshot's pages in a simulated network." };
	struct outcome out = { 0 };
	int error;

	options_table(table);
	argp_parse(&argp, argc, argv, 0, NULL, &o);
	error = run(&o, &out);
	if (error) {
		fprintf(stderr, "mcdist-sim: %s\n", strerror(-error));
		return 2;
	}
	if (o.json)
		print_json(&o, &out);
	else
		print_text(&o, &out);
	if (out.error)
		fprintf(stderr, "mcdist-sim: not done: %s\n", strerror(-out.error));
	return out.error || out.crowd.wrong || out.crowd.lacking;
}
