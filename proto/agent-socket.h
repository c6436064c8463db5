/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libsf ↔ the agent, inside one guest: what XenStore is too small for.
 *
 * A SOCK_SEQPACKET UNIX socket at AGENT_SOCKET. libsf connects, sends one request, gets one reply,
 * closes. Host byte order. An agent that does not know a request answers EINVAL or closes.
 *
 *   AGENT_SOCK_RESULT  this VM is a clone and its result is the file passed as SCM_RIGHTS (a
 *                      memfd), `value` bytes from its start. The reply comes when sfd has all of
 *                      it. A second result before the exit replaces the first.
 *   AGENT_SOCK_ARRIVED this VM is clone `value` and back from sf_clone(): tell ID 0 by UDP, again
 *                      and again until it answers or AGENT_ARRIVED_TRIES are gone. The reply comes
 *                      at once.
 *   AGENT_SOCK_AWAIT   struct agent_sock_await: this process is about to ask sfd for an instant, by
 *                      the XenStore request `request`, and will be in the clones, too. The reply
 *                      comes at once, with AGENT_SOCK_F_NO_MODULE if the guest's kernel module
 *                      (proto/kmod.h) is not there to help; only then the process asks. In a
 *                      clone made by that request another one, struct agent_sock_instant, comes as
 *                      soon as the VM has its own address and its hooks have run, before the
 *                      answer in XenStore can be read. The process runs its handlers, sends the
 *                      first datagram itself, with AGENT_ARRIVED_FIRST, says AGENT_SOCK_ARRIVED on
 *                      the same connection and closes it; the agent sends no reply to that, and
 *                      repeats the datagram after AGENT_ARRIVED_AGAIN_MS. For some milliseconds
 *                      the rest of the agent waits for this. In the parent there is no other
 *                      reply: the answer is in XenStore, and the process closes.
 *   AGENT_SOCK_FORGET  ticket `value` was released: its results are removed. No error if there are
 *                      none.
 *
 * In the parent the agent stores results as regular files, AGENT_RESULT_DIR/<ticket>.<id>, whole
 * before sfd shows the clone as exited (rename(2)), removed by AGENT_SOCK_FORGET.
 *
 * The datagram of ARRIVED is struct agent_arrived, to the parent's address and answer port; the
 * parent's agent sends it back as it is, unless its magic is AGENT_ARRIVED_FIRST: that one is not
 * answered, because clones have better things to do in that moment.
 */
#ifndef PROTO_AGENT_SOCKET_H
#define PROTO_AGENT_SOCKET_H

#include <stdint.h>

#define AGENT_SOCKET "/run/snowflock/agent"
#define AGENT_RESULT_DIR "/run/snowflock/result"
#define AGENT_ANSWER_PORT 1973
#define AGENT_ARRIVED_TRIES 20
#define AGENT_ARRIVED_AGAIN_MS 1000
#define AGENT_REQUEST_KEY_BYTES 48	/* SF_XS_KEY_MAX */

enum agent_sock_op {
	AGENT_SOCK_RESULT = 1,
	AGENT_SOCK_ARRIVED = 2,
	AGENT_SOCK_FORGET = 3,
	AGENT_SOCK_AWAIT = 4,
};

struct agent_sock_request {
	uint32_t op;
	uint32_t reserved;
	uint64_t value;
};

#define AGENT_SOCK_F_NO_MODULE 1u	/* to AWAIT: the kernel module is not loaded */
struct agent_sock_reply {
	int32_t error;		/* 0 or errno */
	uint32_t flags;		/* AGENT_SOCK_F_… */
};

struct agent_sock_await {
	struct agent_sock_request head;		/* value 0 */
	char request[AGENT_REQUEST_KEY_BYTES];	/* its key, padded with NULs */
};

struct agent_sock_instant {
	int32_t error;		/* 0 */
	uint32_t id;		/* who this clone is: 1… */
	uint32_t count;		/* clones made */
	uint32_t checkpoint;	/* that the instant is kept as; 0: not kept */
	uint32_t parent;	/* address of ID 0, network byte order; 0: no network */
	uint16_t answer_port;	/* where it hears arrivals, host byte order */
	uint16_t reserved;
};

#define AGENT_ARRIVED_MAGIC 0x52414653u	/* "SFAR" */
#define AGENT_ARRIVED_FIRST 0x46414653u	/* "SFAF" */
struct agent_arrived {
	uint32_t magic;		/* little-endian, as is id */
	uint32_t id;
};

#endif
