/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The agent in the guest ↔ sfd, over the virtio-serial port AGENT_PORT_NAME.
 *
 * XenStore has its own port (XENSTORE_PORT_NAME), which carries Xen's byte protocol and nothing
 * else. This second port carries what is not XenStore: getting quiet around a clone, commands and
 * their terminals, files in, results out.
 *
 * Frames: struct agent_frame, then `length` bytes. Little-endian. Who speaks first: the agent, with
 * AGENT_HELLO, once it serves the XenStore socket; sfd sends nothing before. A frame that is
 * malformed, too long or out of turn is a broken agent to sfd (the VM ends: what runs in it cannot be
 * reached any more) and a broken host to the agent (it logs and ends, init restarts it).
 * An agent that was started again says AGENT_HELLO again: its commands and puts are lost, results
 * under way are sent again.
 *
 * Getting quiet. sfd sends AGENT_QUIESCE with `xs_sent`, the number of XenStore bytes it has sent
 * in all, and from then on sends nothing on either port but the answers to XenStore requests that
 * were under way. The agent stops reading from its local XenStore clients, waits for the reply to
 * everything it passed on and until it received at least `xs_sent` bytes, sends on what commands
 * have printed so far, and answers AGENT_QUIESCED with the number of XenStore bytes it has sent in
 * all; from then on it sends nothing on either port. Both streams are
 * now empty and stand between two frames: the cut goes through here. After the cut both the parent
 * and each clone get AGENT_RESUME from their own sfd, which tells them who they are. A clone's
 * agent first takes its address, runs the hooks of the guest's owner (snowflock(7)), which may take
 * long, tells the process that asked for the clone (proto/agent-socket.h), then goes on with
 * XenStore, then answers AGENT_RESUMED; what is sent to it before that waits. If the clone
 * operation is given up, AGENT_RESUME comes with the id it had.
 *
 * Held. A guest with the kernel module (proto/kmod.h) says in AGENT_HELLO where its window is, and
 * again by AGENT_MODULE whenever the module was loaded or unloaded. sfd offers AGENT_Q_HOLD in
 * AGENT_QUIESCE if it can do its part; an agent that will hold the guest says AGENT_Q_HOLD and the
 * window in AGENT_QUIESCED, and then holds. Then no AGENT_RESUME comes: the letter in the window
 * has it as its note, in the parent, in each clone, and if the operation is given up. Only if the
 * hold itself failed (the window is not held when sfd looks) does sfd resume the agent by a frame.
 * AGENT_RESUMED is the answer to either.
 *
 * Streams. `stream` numbers belong to who begins the stream: sfd's are 1 and up, per VM; those of an
 * agent (its AGENT_RESULT) have AGENT_STREAM_OF_AGENT set. A stream begins with AGENT_EXEC, AGENT_PUT,
 * AGENT_RESULT (either way) and ends with AGENT_EXITED, AGENT_STORED respectively. Bytes of a stream
 * travel as AGENT_DATA, at most AGENT_MAX_DATA at a time; an AGENT_DATA without bytes is the end of
 * that channel's data. A sender may have AGENT_WINDOW bytes per stream and channel under way and
 * gets room again by AGENT_CREDIT. A put or result has as many bytes as it said and no AGENT_DATA
 * without bytes after them; one before them gives it up. AGENT_STORED with an error may come before
 * the end of the bytes. Frames about a stream that has ended are ignored: they crossed its end.
 *
 * In a clone the streams that the parent had go on with their numbers: output of processes goes to
 * the clone's sfd, with full windows on both sides again; standard input is at its end; puts and
 * results under way are forgotten.
 *
 * Changelog: 1: first. 2: AGENT_RESUME says which request made the clone.
 * 3: the window of the kernel module, AGENT_MODULE, AGENT_Q_HOLD; IPv6 in AGENT_RESUME.
 */
#ifndef PROTO_AGENT_PORT_H
#define PROTO_AGENT_PORT_H

#include <stdint.h>

#define XENSTORE_PORT_NAME "org.snowflock.xenstore.0"
#define AGENT_PORT_NAME "org.snowflock.agent.0"
#define AGENT_VERSION 3
#define AGENT_MAX_DATA 32768u		/* bytes in one AGENT_DATA */
#define AGENT_MAX_FRAME 65536u		/* bytes of any payload */
#define AGENT_WINDOW (256u * 1024u)	/* bytes under way per stream and channel */
#define AGENT_MAX_RESULT (256ull << 20)	/* bytes of one clone's result */
#define AGENT_MAX_STREAMS 128		/* at a time, each VM */
#define AGENT_STREAM_OF_AGENT 0x80000000u	/* in the number of a stream the agent began */

struct agent_frame {
	uint32_t length;	/* bytes that follow */
	uint16_t type;		/* enum agent_type */
	uint16_t channel;	/* enum agent_channel for DATA and CREDIT, else 0 */
	uint32_t stream;	/* 0: none */
};
_Static_assert(sizeof(struct agent_frame) == 12, "no padding");

enum agent_channel { AGENT_STDIN = 0, AGENT_STDOUT = 1, AGENT_STDERR = 2 };	/* files: AGENT_STDIN */

enum agent_type {
	AGENT_HELLO = 1,	/* agent → sfd: struct agent_hello */
	AGENT_QUIESCE,		/* sfd → agent: struct agent_quiesce */
	AGENT_QUIESCED,		/* agent → sfd: struct agent_quiesce */
	AGENT_RESUME,		/* sfd → agent: struct agent_resume; also once after HELLO, with op 0 */
	AGENT_RESUMED,		/* agent → sfd: struct agent_status */
	AGENT_ANSWERED,		/* agent of ID 0 → sfd: struct agent_answered: a clone reached it by UDP */
	AGENT_EXEC,		/* sfd → agent: struct agent_exec, then NUL-ended strings */
	AGENT_EXITED,		/* agent → sfd: struct agent_status: value = wait(2) status, after all output */
	AGENT_SIGNAL,		/* sfd → agent: struct agent_status: value = signal, for the stream's group */
	AGENT_WINSIZE,		/* sfd → agent: struct agent_winsize */
	AGENT_PUT,		/* sfd → agent: struct agent_put, then the absolute path, NUL-ended */
	AGENT_RESULT,		/* agent of a clone → its sfd, and sfd → agent of the parent: struct agent_result */
	AGENT_STORED,		/* receiver of a put or result → sender: struct agent_status: 0 or errno */
	AGENT_DATA,		/* bytes */
	AGENT_CREDIT,		/* struct agent_credit */
	AGENT_MODULE,		/* agent → sfd: struct agent_window */
	AGENT_TYPES
};

/* The kernel module's window (struct sfk_window), as SFK_WHERE tells it. */
struct agent_window {
	uint64_t gfn;
	uint64_t pages;		/* 0: the module is not loaded */
};

struct agent_hello {
	uint32_t version;	/* AGENT_VERSION */
	uint32_t reserved;
	struct agent_window window;
};

#define AGENT_Q_HOLD 1u	/* QUIESCE: sfd can do its part. QUIESCED: the module holds the guest next */
struct agent_quiesce {
	uint64_t op;		/* sfd's number for this attempt, repeated in the answers */
	uint64_t xs_sent;	/* XenStore bytes the speaker has sent since the port exists, modulo 2^64;
				   both sides of a clone go on counting from the parent's numbers */
	uint32_t flags;		/* AGENT_Q_… */
	uint32_t reserved;
	struct agent_window window;	/* QUIESCED with AGENT_Q_HOLD: the one that is used; else 0 */
};
_Static_assert(sizeof(struct agent_quiesce) == 40, "no padding");

struct agent_resume {
	uint64_t op;		/* 0: the VM has just booted */
	uint32_t id;		/* who this VM is now */
	uint32_t count;		/* clones made in this operation */
	uint8_t mac[6];
	uint8_t prefix;		/* length of the segment's prefix */
	uint8_t prefix6;	/* length of the segment's IPv6 prefix; 0: no IPv6 */
	uint32_t address;	/* IPv4, network byte order; 0: no network */
	uint32_t gateway;	/* network byte order; 0: none */
	uint32_t parent;	/* address of ID 0, network byte order */
	uint16_t answer_port;	/* UDP, host order in the little-endian frame */
	uint16_t reserved;
	uint64_t realtime_ns;	/* the host's CLOCK_REALTIME as this is sent */
	uint32_t checkpoint;	/* that the clone is made of; 0: none */
	uint32_t reserved2;
	char request[48];	/* key of the request that made the clone, padded with NULs; else empty */
	uint8_t address6[16];	/* with prefix6; the link-local address follows from the MAC (RFC 4291) */
};
_Static_assert(sizeof(struct agent_resume) == 120, "no padding");

struct agent_status {
	int32_t value;
	uint32_t reserved;
};

struct agent_answered {
	uint32_t id;		/* as the clone says */
	uint32_t slot;		/* the address it came from, less that of ID 0: whose it is, sfd knows */
};

#define AGENT_EXEC_TTY 1u	/* on a terminal of its own: stdin and stdout are the pty, stderr unused */
#define AGENT_MAX_ARGS 1024u
/* Followed by argc + envc strings and one for the working directory, each NUL-ended. */
struct agent_exec {
	uint32_t flags;
	uint16_t argc;		/* 1..AGENT_MAX_ARGS; argv[0] is looked up in PATH */
	uint16_t envc;		/* added to the agent's environment */
	uint16_t rows, columns;	/* of the terminal */
	uint32_t reserved;
};
_Static_assert(sizeof(struct agent_exec) == 16, "no padding");

struct agent_winsize {
	uint16_t rows, columns;
	uint32_t reserved;
};

struct agent_put {
	uint32_t mode;		/* permission bits */
	uint32_t reserved;
	uint64_t length;	/* bytes that follow as AGENT_DATA */
};

struct agent_result {
	uint32_t ticket;	/* 0 from a clone: its own */
	uint32_t id;		/* 0 from a clone: its own */
	uint64_t length;	/* bytes that follow as AGENT_DATA */
};

struct agent_credit {
	uint32_t bytes;
	uint32_t reserved;
};

#endif
