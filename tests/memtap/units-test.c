/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts by themselves: datagrams, windows, pace, times, page files. */
#include <CUnit/CUnit.h>
#include <endian.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/mcdist/coding.h"
#include "host/mcdist/flow.h"
#include "host/mcdist/pace.h"
#include "host/mcdist/seal.h"
#include "host/mcdist/window.h"
#include "host/mcdist/wire.h"
#include "host/memtap/times.h"
#include "host/snapshot/pagefile.h"
#include "tests/memtap/harness.h"

/* ── seal ── */

/* Opened by libsodium with a nonce and header made by hand: the layout is part of the protocol. */
static void test_seal_is_chacha20_poly1305(void)
{
	static const uint8_t body[] = "the quick brown fox";
	uint8_t datagram[256], plain[256], nonce[12];
	struct mc_seal seal = { .snapshot = 0x1122334455667788,
				.sender = 0xa1b2c3d4,
				.counter = 6 };
	unsigned long long plain_len;
	size_t len;

	memset(seal.key, 0x42, sizeof(seal.key));
	memcpy(datagram + sizeof(struct mc_header), body, sizeof(body));
	len = mc_seal_datagram(&seal, MC_PAGES, datagram, sizeof(body));
	CU_ASSERT_EQUAL(len, 24 + sizeof(body) + 16);
	CU_ASSERT_EQUAL(
		memcmp(datagram,
		       "SM\4\2\xd4\xc3\xb2\xa1\7\0\0\0\0\0\0\0\x88\x77\x66\x55\x44\x33\x22\x11",
		       24),
		0);
	memcpy(nonce, "\xd4\xc3\xb2\xa1\7\0\0\0\0\0\0\0", 12);
	CU_ASSERT_EQUAL(crypto_aead_chacha20poly1305_ietf_decrypt(plain, &plain_len, NULL,
								  datagram + 24, len - 24, datagram,
								  24, nonce, seal.key),
			0);
	CU_ASSERT_EQUAL(plain_len, sizeof(body));
	CU_ASSERT_EQUAL(memcmp(plain, body, sizeof(body)), 0);
}

static void test_every_bit_is_authentic(void)
{
	uint8_t datagram[128] = { 0 }, damaged[128];
	struct mc_seal seal;
	struct mc_header header;
	uint8_t key[MC_KEY_BYTES] = { 9 };
	size_t len, body_len;

	mc_seal_init(&seal, 5, key, false);
	len = mc_seal_datagram(&seal, MC_REQUEST, datagram, 16);
	for (size_t bit = 0; bit < len * 8; bit++) {
		memcpy(damaged, datagram, len);
		damaged[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT(mc_read_header(damaged, len, &header) == -EBADMSG ||
			  mc_unseal_datagram(key, damaged, len, &body_len) == -EBADMSG);
	}
	for (size_t cut = 0; cut < len; cut++) {
		memcpy(damaged, datagram, len);
		CU_ASSERT_EQUAL(mc_unseal_datagram(key, damaged, cut, &body_len), -EBADMSG);
	}
	CU_ASSERT_EQUAL(mc_read_header(datagram, len, &header), 0);
	CU_ASSERT_EQUAL(header.snapshot, 5);
	CU_ASSERT_EQUAL(header.counter, 1);
	CU_ASSERT_EQUAL(mc_unseal_datagram(key, datagram, len, &body_len), 0);
	CU_ASSERT_EQUAL(body_len, 16);
	mc_seal_fini(&seal);
}

/* ── window ── */

static void test_window(void)
{
	static struct mc_windows w;

	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, 0));
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, UINT64_MAX));
	for (uint64_t c = 1; c < 5000; c += 2)
		CU_ASSERT_TRUE(mc_windows_accept(&w, 1, c));
	/* overtaken by less than the window: taken, once */
	for (uint64_t c = 4998; c > 4999 - (MC_WINDOW_BITS - 64); c -= 2) {
		CU_ASSERT_TRUE(mc_windows_accept(&w, 1, c));
		CU_ASSERT_FALSE(mc_windows_accept(&w, 1, c));
		CU_ASSERT_FALSE(mc_windows_accept(&w, 1, c - 1));
	}
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, 4999 - (MC_WINDOW_BITS - 64)));
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, 2));
	/* a leap over the whole ring and more */
	CU_ASSERT_TRUE(mc_windows_accept(&w, 1, 1u << 20));
	CU_ASSERT_TRUE(mc_windows_accept(&w, 1, (1u << 20) - 5));
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, (1u << 20) - 5));
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, 1u << 20));
	/* senders do not disturb each other */
	CU_ASSERT_TRUE(mc_windows_accept(&w, 2, 4999));
	CU_ASSERT_TRUE(mc_windows_accept(&w, 2, 4998));
}

static void test_window_forgets_the_least_recent_sender(void)
{
	static struct mc_windows w;

	for (uint32_t s = 1; s <= MC_SENDERS; s++)
		CU_ASSERT_TRUE(mc_windows_accept(&w, s, 10));
	CU_ASSERT_TRUE(mc_windows_accept(&w, 1, 11));
	CU_ASSERT_TRUE(mc_windows_accept(&w, 1000, 1));	/* in the place of 2 */
	CU_ASSERT_FALSE(mc_windows_accept(&w, 1, 11));
	CU_ASSERT_FALSE(mc_windows_accept(&w, 3, 10));
	CU_ASSERT_TRUE(mc_windows_accept(&w, 2, 10));
}

/* ── wire ── */

static void test_requests(void)
{
	struct mc_span in[MC_MAX_RUNS], out[MC_MAX_RUNS];
	uint8_t body[sizeof(struct mc_run) * (MC_MAX_RUNS + 1)] = { 0 };
	size_t len;

	for (unsigned i = 0; i < MC_MAX_RUNS; i++)
		in[i] = (struct mc_span){ i * 11, 1 + i % MC_MAX_PAGES, i % 8 };
	len = mc_write_request(body, in, MC_MAX_RUNS);
	CU_ASSERT_EQUAL(mc_read_request(body, len, 1000, out), MC_MAX_RUNS);
	for (unsigned i = 0; i < MC_MAX_RUNS; i++)
		CU_ASSERT(in[i].gfn == out[i].gfn && in[i].pages == out[i].pages &&
			  in[i].flags == out[i].flags);
	CU_ASSERT_EQUAL(mc_read_request(body, len, 63 * 11 + 8, out), MC_MAX_RUNS);
	CU_ASSERT_EQUAL(mc_read_request(body, len, 63 * 11 + 7, out), -EBADMSG);
	CU_ASSERT_EQUAL(mc_read_request(body, len - 1, 1000, out), -EBADMSG);
	CU_ASSERT_EQUAL(mc_read_request(body, 0, 1000, out), -EBADMSG);
	CU_ASSERT_EQUAL(mc_read_request(body, sizeof(body), 1000, out), -EBADMSG);
	body[12] = 8;	/* a flag that there is not */
	CU_ASSERT_EQUAL(mc_read_request(body, len, 1000, out), -EBADMSG);
}

static void test_pages(void)
{
	uint8_t body[MC_MAX_DATAGRAM];
	struct mc_span span = { .gfn = 100, .pages = 5 };
	static const uint16_t bytes[] = { MC_PAGE_BYTES, 0, 8, 100, 0 };
	static const enum mc_coding codings[] = { MC_PLAIN, 0, MC_SAME, MC_LZ4, 0 };
	struct mc_pages_writer w;
	struct mc_pages_reader r;
	size_t len;

	mc_pages_begin(&w, body, &span);
	for (unsigned i = 0; i < 5; i++) {
		memset(mc_pages_room(&w), (int)i + 1, MC_PAGE_BYTES);
		if (bytes[i])
			mc_pages_add(&w, codings[i], bytes[i]);
		else
			mc_pages_add_zero(&w);
	}
	len = mc_pages_end(&w);
	CU_ASSERT_EQUAL(len, sizeof(struct mc_pages) + 3 * 4 + MC_PAGE_BYTES + 8 + 100);
	CU_ASSERT_EQUAL_FATAL(mc_read_pages(body, len, 105, &r), 0);
	for (unsigned i = 0; i < 5; i++) {
		struct mc_coded page = mc_next_page(&r, i);

		CU_ASSERT_EQUAL(page.data == NULL, bytes[i] == 0);
		CU_ASSERT(!page.data || (page.coding == codings[i] && page.bytes == bytes[i] &&
					 page.data[0] == i + 1 &&
					 page.data[page.bytes - 1] == i + 1));
	}
	CU_ASSERT_EQUAL(mc_read_pages(body, len, 104, &r), -EBADMSG);
	CU_ASSERT_EQUAL(mc_read_pages(body, len - 1, 105, &r), -EBADMSG);
	for (size_t cut = 0; cut < sizeof(struct mc_pages) + 12; cut++)
		CU_ASSERT_EQUAL(mc_read_pages(body, cut, 105, &r), -EBADMSG);
	body[16] = 3;	/* no such coding */
	CU_ASSERT_EQUAL(mc_read_pages(body, len, 105, &r), -EBADMSG);
	body[16] = MC_LZ4;	/* as long as a page that is not */
	CU_ASSERT_EQUAL(mc_read_pages(body, len, 105, &r), -EBADMSG);
	body[16] = MC_PLAIN;
	CU_ASSERT_EQUAL(mc_read_pages(body, len, 105, &r), 0);
	body[12] |= 1u << 5;	/* a zero page beyond the span */
	CU_ASSERT_EQUAL(mc_read_pages(body, len, 105, &r), -EBADMSG);
}

/* ── pace ── */

static void test_timeouts_follow_the_round_trip(void)
{
	struct mc_pace p;

	mc_pace_init(&p, 100);
	CU_ASSERT_EQUAL(mc_pace_timeout_ns(&p, 0), MC_RTO_FIRST_NS);
	for (unsigned i = 0; i < 100; i++)
		mc_pace_arrived(&p, 100000);
	CU_ASSERT_EQUAL(mc_pace_timeout_ns(&p, 0), MC_RTO_MIN_NS);
	for (unsigned i = 0; i < 100; i++)
		mc_pace_arrived(&p, 50000000);
	CU_ASSERT(mc_pace_timeout_ns(&p, 0) >= 49000000 && mc_pace_timeout_ns(&p, 0) < 60000000);
	CU_ASSERT_EQUAL(mc_pace_timeout_ns(&p, 1), 2 * mc_pace_timeout_ns(&p, 0));
	CU_ASSERT_EQUAL(mc_pace_timeout_ns(&p, 30), MC_RTO_MAX_NS);
	CU_ASSERT_EQUAL(mc_pace_timeout_ns(&p, UINT32_MAX), MC_RTO_MAX_NS);
}

static void test_window_follows_losses(void)
{
	struct mc_pace p;

	mc_pace_init(&p, 3);
	CU_ASSERT_EQUAL(p.window_pages, MC_WINDOW_MIN);
	mc_pace_init(&p, 64);
	for (unsigned i = 0; i < 10; i++)
		mc_pace_lost(&p);
	CU_ASSERT_EQUAL(p.window_pages, MC_WINDOW_MIN);
	for (unsigned i = 0; i < 64 * 64; i++)
		mc_pace_arrived(&p, 0);
	CU_ASSERT_EQUAL(p.window_pages, 64);
}

/* ── flow ── */

/* Sends for a second. Return: pages. */
static uint64_t pages_in_a_second(struct mc_flow *f, uint64_t *now_ns)
{
	uint64_t end_ns = *now_ns + 1000000000ull, pages = 0;

	while (*now_ns < end_ns) {
		if (mc_flow_wait_ns(f, *now_ns, false)) {
			*now_ns += 100000;
			continue;
		}
		mc_flow_sent(f, *now_ns, MC_PAGE_BYTES);
		pages++;
	}
	return pages;
}

static void test_flow_is_no_faster_than_the_slowest(void)
{
	struct mc_report slow = { .node = 70, .received = 100, .takes_pages_per_s = 5000 };
	struct mc_report fast = { .node = 2, .received = 100, .takes_pages_per_s = 90000 };
	uint64_t now_ns = 5000000000ull, pages;
	struct mc_flow f;

	mc_flow_init(&f);
	CU_ASSERT_EQUAL(mc_flow_report(&f, now_ns, &slow), 0);
	CU_ASSERT_EQUAL(mc_flow_report(&f, now_ns, &fast), 0);
	pages = pages_in_a_second(&f, &now_ns);
	CU_ASSERT(pages >= 4500 && pages <= 5100);
	/* what somebody waits for may run ahead of what is pushed */
	while (!mc_flow_wait_ns(&f, now_ns, false))
		mc_flow_sent(&f, now_ns, MC_PAGE_BYTES);
	CU_ASSERT_EQUAL(mc_flow_wait_ns(&f, now_ns, true), 0);
	/* silent by now, so not waited for */
	for (unsigned i = 0; i < 100; i++) {
		now_ns += MC_SILENT_NS / 50;
		mc_flow_report(&f, now_ns, &fast);
	}
	CU_ASSERT(pages_in_a_second(&f, &now_ns) > 20000);
	mc_flow_fini(&f);
}

static void test_flow_follows_losses(void)
{
	struct mc_report bad = { .node = 1, .received = 50, .missed = 50 };
	struct mc_report fair = { .node = 1, .received = 95, .missed = 5 };
	uint64_t now_ns = 1000000000ull;
	struct mc_flow f;
	uint32_t slow;

	mc_flow_init(&f);
	for (unsigned i = 0; i < 100; i++)
		mc_flow_report(&f, now_ns += MC_REPORT_NS, &bad);
	CU_ASSERT_EQUAL(f.pages_per_s, MC_FLOW_MIN_PAGES_PER_S);
	slow = f.pages_per_s;
	for (unsigned i = 0; i < 100; i++)
		mc_flow_report(&f, now_ns += MC_REPORT_NS, &fair);
	CU_ASSERT(f.pages_per_s > 4 * slow);
	mc_flow_fini(&f);
}

/* ── coding ── */

/* Pages 1 and 3 are the same numbers, 2 is one byte over and over, 4 is other numbers. */
static int read_coded(void *arg, uint64_t gfn, uint8_t page[MC_PAGE_BYTES])
{
	(void)arg;
	if (gfn == 2)
		memset(page, 'x', MC_PAGE_BYTES);
	else
		content_page(CONTENT_FULL | 1, gfn == 3 ? 1 : gfn, page);
	return 1;
}

static void test_coding(void)
{
	static const enum mc_coding expected[] = { MC_PLAIN, MC_LZ4, MC_SAME, MC_PLAIN };
	struct mc_coder *coder = mc_coder_create(read_coded, NULL);
	struct mc_span span = { .gfn = 1, .pages = 4 };
	uint8_t body[MC_MAX_DATAGRAM], page[MC_PAGE_BYTES], right[MC_PAGE_BYTES];
	struct mc_counters counters = { 0 };
	struct mc_pages_writer w;
	struct mc_pages_reader r;

	mc_pages_begin(&w, body, &span);
	for (unsigned i = 0; i < 4; i++) {
		read_coded(NULL, 1 + i, mc_pages_room(&w));
		mc_coder_add(coder, &w, 1 + i, true, &counters);
	}
	CU_ASSERT_EQUAL_FATAL(mc_read_pages(body, mc_pages_end(&w), 10, &r), 0);
	for (unsigned i = 0; i < 4; i++) {
		struct mc_coded coded = mc_next_page(&r, i);

		CU_ASSERT_EQUAL(coded.coding, expected[i]);
		read_coded(NULL, 1 + i, right);
		if (coded.coding == MC_SAME)
			CU_ASSERT_EQUAL(mc_same_gfn(&coded), 1);
		if (coded.coding == MC_PLAIN)
			CU_ASSERT_EQUAL(memcmp(coded.data, right, MC_PAGE_BYTES), 0);
		if (coded.coding != MC_LZ4)
			continue;
		CU_ASSERT(coded.bytes <= MC_PAGE_BYTES * 3 / 4);
		CU_ASSERT_TRUE(mc_decompress(&coded, page));
		CU_ASSERT_EQUAL(memcmp(page, right, MC_PAGE_BYTES), 0);
		coded.bytes--;
		CU_ASSERT_FALSE(mc_decompress(&coded, page));
	}
	CU_ASSERT(counters.same == 1 && counters.compressed == 1);
	mc_coder_destroy(coder);
}

/* ── times ── */

static void test_times(void)
{
	static struct mem_times t, u;

	CU_ASSERT_EQUAL(mem_times_percentile(&t, 50), 0);
	for (uint64_t i = 1; i <= 1000; i++)
		mem_times_add(&t, i * 1000);
	CU_ASSERT(mem_times_percentile(&t, 50) >= 500000 && mem_times_percentile(&t, 50) < 570000);
	CU_ASSERT(mem_times_percentile(&t, 99) >= 990000 && mem_times_percentile(&t, 99) < 1120000);
	CU_ASSERT(mem_times_percentile(&t, 100) >= 1000000);
	mem_times_add(&u, 0);
	mem_times_add(&u, 7);
	mem_times_add(&u, 8);
	mem_times_add(&u, UINT64_MAX);
	CU_ASSERT_EQUAL(mem_times_percentile(&u, 1), 0);
	CU_ASSERT_EQUAL(mem_times_percentile(&u, 50), 7);
	CU_ASSERT_EQUAL(mem_times_percentile(&u, 75), 8);
	CU_ASSERT(mem_times_percentile(&u, 100) > 1ull << 40);
	mem_times_merge(&t, &u);
	CU_ASSERT_EQUAL(t.count, 1004);
}

/* ── page files ── */

static void test_page_file(void)
{
	struct test_file memfds = test_file_create(0, 64);
	int page_fd = dup(memfds.page_fd), map_fd = dup(memfds.map_fd);
	uint8_t page[SNAP_PAGE_BYTES] = { 0 }, back[SNAP_PAGE_BYTES];
	struct snap_file *f = NULL;

	CU_ASSERT_EQUAL(snap_file_create(page_fd, map_fd, 63, &f), -EINVAL);
	CU_ASSERT_EQUAL_FATAL(snap_file_create(page_fd, map_fd, 64, &f), 0);
	CU_ASSERT_EQUAL(snap_file_run(f, 60, 100, PAGE_ABSENT), 4);
	CU_ASSERT_EQUAL(snap_file_put(f, 5, page), PAGE_ZERO);
	CU_ASSERT_EQUAL(snap_file_state(f, 5), PAGE_ZERO);
	page[4095] = 1;
	CU_ASSERT_EQUAL(snap_file_put(f, 6, page), PAGE_PRESENT);
	CU_ASSERT_EQUAL(snap_file_read(f, 6, back), 0);
	CU_ASSERT_EQUAL(memcmp(page, back, sizeof(page)), 0);
	/*
	 * put in, and died before the map was set: the same page again is no error, and not a
	 * second one
	 */
	CU_ASSERT_EQUAL(pwrite(memfds.map_fd, "\0", 1, 6), 1);
	CU_ASSERT_EQUAL(snap_file_put(f, 6, page), PAGE_PRESENT);
	CU_ASSERT_EQUAL(snap_file_run(f, 0, 64, PAGE_ABSENT), 5);
	snap_file_set_zero(f, 63);
	CU_ASSERT_EQUAL(test_file_blocks(memfds.page_fd), 1);
	snap_file_destroy(f);
	/* another process finds what was there */
	CU_ASSERT_EQUAL_FATAL(snap_file_create(dup(memfds.page_fd), dup(memfds.map_fd), 64, &f), 0);
	CU_ASSERT_EQUAL(snap_file_state(f, 5), PAGE_ZERO);
	CU_ASSERT_EQUAL(snap_file_state(f, 6), PAGE_PRESENT);
	CU_ASSERT_EQUAL(snap_file_state(f, 63), PAGE_ZERO);
	snap_file_destroy(f);
	test_file_destroy(&memfds);
}

/* All patterns of bits upon all patterns of states, in a RAM that ends in the middle of a word. */
static void test_dead_pages(void)
{
	static const enum page_state states[] = { PAGE_ABSENT, PAGE_PRESENT, PAGE_ZERO, PAGE_DEAD };
	const uint64_t pages = 1000 * 64 + 61;
	struct test_file memfds = test_file_create(0, pages);
	uint64_t *bits = malloc((pages + 63) / 64 * 8), wrong = 0;
	uint8_t *map = malloc(pages);
	struct snap_file *f = NULL;

	for (uint64_t i = 0; i < pages; i++)
		map[i] = (uint8_t)states[i * i / 7 % 5 % 4];
	for (uint64_t i = 0; i < (pages + 63) / 64; i++)
		bits[i] = htole64(i % 5 ? i * 0x9e3779b97f4a7c15ull : 0 - i % 2);
	bits[pages / 64] = UINT64_MAX;
	CU_ASSERT_EQUAL(pwrite(memfds.map_fd, map, pages, 0), (ssize_t)pages);
	CU_ASSERT_EQUAL_FATAL(
		snap_file_create(dup(memfds.page_fd), dup(memfds.map_fd), pages, &f), 0);
	snap_file_set_dead(f, bits);
	for (uint64_t i = 0; i < pages; i++) {
		bool dead = !map[i] && le64toh(bits[i / 64]) >> i % 64 & 1;

		wrong += snap_file_state(f, i) != (dead ? PAGE_DEAD : (enum page_state)map[i]);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	snap_file_destroy(f);
	test_file_destroy(&memfds);
	free(bits);
	free(map);
}

static void test_zero_pages(void)
{
	uint8_t page[SNAP_PAGE_BYTES] = { 0 };

	CU_ASSERT_TRUE(snap_page_is_zero(page));
	for (unsigned i = 0; i < SNAP_PAGE_BYTES; i++) {
		page[i] = 1;
		CU_ASSERT_FALSE(snap_page_is_zero(page));
		page[i] = 0;
	}
}

static const struct test tests[] = {
	{ "a datagram is what it is said to be", test_seal_is_chacha20_poly1305 },
	{ "every bit of a datagram is authentic", test_every_bit_is_authentic },
	{ "replay window", test_window },
	{ "replay windows: the least recent goes", test_window_forgets_the_least_recent_sender },
	{ "requests", test_requests },
	{ "pages", test_pages },
	{ "time-outs follow the round trip", test_timeouts_follow_the_round_trip },
	{ "the window follows losses", test_window_follows_losses },
	{ "the flow is no faster than the slowest", test_flow_is_no_faster_than_the_slowest },
	{ "the flow follows losses", test_flow_follows_losses },
	{ "coding", test_coding },
	{ "times", test_times },
	{ "page file", test_page_file },
	{ "dead pages", test_dead_pages },
	{ "zero pages", test_zero_pages },
};

int main(int argc, char **argv)
{
	if (sodium_init() < 0)
		return 99;
	need_userfaultfd();
	return run_tests("units", tests, ARRAY_SIZE(tests), argc, argv);
}
