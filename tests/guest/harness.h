/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A real sf-agent with the test at the other end of both of its ports. */
#ifndef TESTS_GUEST_HARNESS_H
#define TESTS_GUEST_HARNESS_H

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <xen/io/xs_wire.h>

#include "proto/agent-port.h"
#include "proto/agent-socket.h"

#define GUEST_WAIT_MS 10000

struct guest {
	char dir[32];		/* its sockets and results */
	pid_t pid;
	int port, xs;		/* the host's ends */
	uint64_t xs_sent;	/* bytes sent on xs */
	struct agent_frame frame;	/* of the last guest_receive() */
	uint8_t payload[AGENT_MAX_FRAME] __attribute__((aligned(8)));
	struct xsd_sockmsg head;	/* of the last guest_xs_receive(), client_receive() */
	char body[XENSTORE_PAYLOAD_MAX + 1];	/* with a zero byte behind it */
};

/*
 * Runs `run` in a process of its own, with the guest's ends of the two ports; it ends with the
 * guest. Return: the guest, to guest_stop(). Ends the program if that fails.
 */
struct guest *guest_start_by(void (*run)(const struct guest *guest, int port, int xs));
/* Starts an agent. */
struct guest *guest_start(void);
/* The same, booted as ID 0: HELLO, RESUME, RESUMED are done. `answer_port`: 0 for none. */
struct guest *guest_boot(uint16_t answer_port);
struct guest *guest_boot_by(void (*run)(const struct guest *guest, int port, int xs),
			    uint16_t answer_port);
/*
 * For a `run` of one's own: becomes the agent, with more options (NULL-ended). What it finds as the
 * guest's is below g->dir: /etc and /var in root/, the kernel module's device in dev/.
 */
void guest_run_agent(const struct guest *guest, int port, int xs,
		     const char *const *options);
/* Ends it, removes everything. */
void guest_stop(struct guest *guest);
/* Waits for it to end by itself. Return: its exit status. */
int guest_wait(struct guest *guest);

/* Frames. Receiving fails the test for good after GUEST_WAIT_MS. */
void guest_send(struct guest *guest, unsigned type, unsigned channel, uint32_t stream,
		const void *payload, size_t len);
void guest_receive(struct guest *guest);
/* Receives one of this type and stream. Return: its payload. */
const void *guest_expect(struct guest *guest, unsigned type, uint32_t stream);
/* True if a frame comes within `ms`. */
bool guest_speaks(struct guest *guest, int ms);
void guest_resume(struct guest *guest, uint64_t op, uint32_t id, uint16_t answer_port);
void guest_quiesce(struct guest *guest, uint64_t op);

/*
 * Puts this process into a network namespace of its own, with a NIC `seg0` that leads nowhere.
 * Return: false where that is not allowed.
 */
bool guest_own_network(void);
/* Return: true if guest_own_network() would work. */
bool guest_may_own_network(void);

/* Return: a path in the guest's folder, good until the next call. */
char *guest_path(const struct guest *guest, const char *name);
/* Writes a file there, and makes the folders above it. */
void guest_file(const struct guest *guest, const char *name, unsigned mode, const char *text);
/* Return: true if the file is there and has these words in it. */
bool guest_file_has(const struct guest *guest, const char *name, const char *words);

/* Starts a command; arguments up to NULL. */
void guest_exec(struct guest *guest, uint32_t stream, uint32_t flags, const char *command, ...);
/* Gathers output up to AGENT_EXITED, giving credit. Return: the wait status. */
int guest_output(struct guest *guest, uint32_t stream, char *out, char *err, size_t room);

/* The XenStore server's end. */
void guest_xs_receive(struct guest *guest);
void guest_xs_send(struct guest *guest, uint32_t type, uint32_t req_id, uint32_t tx_id,
		   const char *body, size_t len);
/* Receives a request of this type and answers it. */
void guest_xs_answer(struct guest *guest, uint32_t type, const char *answer);

/* A local XenStore client. */
int client_connect(struct guest *guest);
void client_send(int fd, uint32_t type, uint32_t req_id, uint32_t tx_id, const char *body,
		 size_t len);
void client_receive(struct guest *guest, int fd);
bool client_hears(int fd, int ms);

/* A connection to the agent's own socket. */
int sock_connect(struct guest *guest);

/* Runs the suite of one program. Return: its exit status. */
int run_suite(const char *name, const CU_TestInfo *tests);

#endif
