/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * memtap ↔ memtap on other hosts: pages of a snapshot, over UDP.
 *
 * Who speaks first: the host that lacks a page sends MC_REQUEST to the page server (the memtap of
 * the parent's host); it answers with one MC_PAGES per run of pages. Nothing is acknowledged: who
 * asked and got no answer asks again. A request that the server cannot answer (unknown snapshot,
 * page outside the RAM, a datagram that does not authenticate) gets nothing at all.
 *
 * Every datagram is sealed with ChaCha20-Poly1305 (RFC 8439, libsodium's IETF variant) under the
 * snapshot's key: the header is authenticated, the body encrypted. The nonce is `sender` (4 bytes,
 * random per process and snapshot, so that no two senders ever use one nonce) and `counter` (8
 * bytes, little-endian, counting up from 1). Receivers keep a sliding window per sender and drop
 * what they have seen or what is too old.
 *
 * All integers little-endian. A datagram with a page is larger than an Ethernet frame; IP fragments
 * it, and half a datagram never arrives.
 *
 * MC_WAKE asks for what clones of earlier snapshots of the same VM needed in their first moments;
 * the server sends those pages as if they had been asked for, or nothing if it knows of none. It is
 * sent once, by a host that begins, and not repeated: what is lost is asked for when it is needed.
 *
 * Changelog: 1: unicast request and pages. 2: MC_WAKE.
 */
#ifndef PROTO_MCDIST_H
#define PROTO_MCDIST_H

#include <stdint.h>

#define MC_MAGIC 0x4d53		/* "SM" */
#define MC_VERSION 2
#define MC_KEY_BYTES 32
#define MC_TAG_BYTES 16
#define MC_PAGE_BYTES 4096
#define MC_MAX_RUNS 64		/* runs of pages in one request */
#define MC_MAX_PAGES 8		/* pages in one MC_PAGES */

enum mc_type {
	MC_REQUEST = 1,		/* body: struct mc_run[1..MC_MAX_RUNS] */
	MC_PAGES = 2,		/* body: struct mc_pages, then the pages that are not zero */
	MC_WAKE = 3,		/* body: empty */
};

struct mc_header {
	uint16_t magic;
	uint8_t version;
	uint8_t type;		/* enum mc_type */
	uint32_t sender;
	uint64_t counter;
	uint64_t snapshot;
};
_Static_assert(sizeof(struct mc_header) == 24, "no padding");

struct mc_run {
	uint64_t gfn;		/* first page */
	uint32_t pages;		/* 1..MC_MAX_PAGES */
	uint32_t reserved;	/* 0 */
};
_Static_assert(sizeof(struct mc_run) == 16, "no padding");

struct mc_pages {
	uint64_t gfn;		/* first page */
	uint32_t pages;		/* 1..MC_MAX_PAGES */
	uint32_t zero;		/* bit i: page gfn + i is all zeros and not in the body */
};
_Static_assert(sizeof(struct mc_pages) == 16, "no padding");

#define MC_MAX_DATAGRAM \
	(sizeof(struct mc_header) + sizeof(struct mc_pages) + MC_MAX_PAGES * MC_PAGE_BYTES + MC_TAG_BYTES)

#endif
