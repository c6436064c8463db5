/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libsf ↔ the agent, inside one guest: what XenStore is too small for.
 *
 * A SOCK_SEQPACKET UNIX socket at AGENT_SOCKET. libsf connects, sends one request, gets one reply,
 * closes. Host byte order.
 *
 *   AGENT_SOCK_RESULT  this VM is a clone and its result is the file passed as SCM_RIGHTS (a
 *                      memfd), `value` bytes from its start. The reply comes when sfd has all of
 *                      it. A second result before the exit replaces the first.
 *   AGENT_SOCK_ARRIVED this VM is clone `value` and back from sf_clone(): tell ID 0 by UDP, again
 *                      and again until it answers or AGENT_ARRIVED_TRIES are gone. The reply comes
 *                      at once.
 *   AGENT_SOCK_FORGET  ticket `value` was released: its results are removed. No error if there are
 *                      none.
 *
 * In the parent the agent stores results as regular files, AGENT_RESULT_DIR/<ticket>.<id>, whole
 * before sfd shows the clone as exited (rename(2)), removed by AGENT_SOCK_FORGET.
 *
 * The datagram of ARRIVED is struct agent_arrived, to the parent's address and answer port; the
 * parent's agent sends it back as it is.
 */
#ifndef PROTO_AGENT_SOCKET_H
#define PROTO_AGENT_SOCKET_H

#include <stdint.h>

#define AGENT_SOCKET "/run/snowflock/agent"
#define AGENT_RESULT_DIR "/run/snowflock/result"
#define AGENT_ANSWER_PORT 1973
#define AGENT_ARRIVED_TRIES 20

enum agent_sock_op { AGENT_SOCK_RESULT = 1, AGENT_SOCK_ARRIVED = 2, AGENT_SOCK_FORGET = 3 };

struct agent_sock_request {
	uint32_t op;
	uint32_t reserved;
	uint64_t value;
};

struct agent_sock_reply {
	int32_t error;		/* 0 or errno */
	uint32_t reserved;
};

#define AGENT_ARRIVED_MAGIC 0x52414653u	/* "SFAR" */
struct agent_arrived {
	uint32_t magic;		/* little-endian, as is id */
	uint32_t id;
};

#endif
