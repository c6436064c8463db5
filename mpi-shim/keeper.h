/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The keeper's parts among themselves. One thread has all of it (but for groups.c's watchers, which
 * write to a pipe and touch nothing), so there are no locks.
 *
 *   keeper.c    peers: who connects, what they say
 *   groups.c    groups and their clones, from WANT to ENDED
 *   launches.c  commands: a launcher's, in a clone
 */
#ifndef MPI_SHIM_KEEPER_H
#define MPI_SHIM_KEEPER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libsf/sf.h"
#include "loop.h"
#include "proto/mpi.h"
#include "libsf/silence.h"
#include "wire.h"

/* What the keeper needs of libsf; a test has its own. */
struct keeper_libsf {
	int (*request_ticket)(unsigned n, const struct sf_hints *hints);
	int (*clone_ticket)(int ticket);
	int (*count)(void);
	int (*wait_any)(int ticket, int timeout_ms);
	int (*status_ticket)(int ticket, unsigned id, struct sf_status *status);
	int (*address_ticket)(int ticket, unsigned id, char *text, size_t len);
	int (*kill_ticket)(int ticket);
	int (*ticket_free)(int ticket);
	int (*id)(void);
	const char *(*error)(void);
	void (*exit)(int status);
};

extern const struct keeper_libsf keeper_libsf; /* libsf itself */

struct keeper;
struct group;
struct launch;

/* Someone who is connected. */
struct peer {
	struct source source;
	struct wire wire;
	struct peer *next;
	struct keeper *keeper;
	unsigned number; /* for the log */
	uint32_t role;	 /* enum mpi_role; 0 before HELLO */
	bool tcp;
	pid_t pid;	    /* by UNIX socket, else 0 */
	uint64_t since_ns;
	int error;	    /* to be disconnected for it, when nobody uses it */
	struct member *member;	/* an executor's */
	struct launch *launch;	/* a launcher's */
};

/*
 * A clone, for as long as its group is there.
 *
 *   away    not called home yet         LAUNCH is kept
 *   home    peer != NULL                commands run
 *   mute    its executor has gone       it is waited for what libsf says of it
 *   ended   libsf said so               final
 */
struct member {
	struct group *group;
	uint32_t id; /* 1… */
	char address[SF_ADDRESS_BYTES];
	struct peer *peer;
	bool leaving;  /* LEAVE is said, or will be when it calls home */
	bool started;  /* there was a command for it */
	bool mute, ended;
	uint64_t mute_ns;
};

struct group {
	struct group *next;
	struct keeper *keeper;
	uint32_t number;    /* the ticket */
	struct peer *asker; /* NULL: has gone */
	uint32_t clones, living;
	bool killed;
	uint64_t since_ns;
	struct member *members; /* `clones` of them */
};

/* A command, from LAUNCH until EXITED. */
struct launch {
	struct launch *next;
	uint32_t number;
	struct peer *launcher; /* NULL: has gone */
	struct member *member;
	struct wire_payload start;
	bool sent;	    /* START is */
	uint64_t signal_ns; /* when it is to be killed, then: given up; 0: no such plan */
	bool killed;
};

struct keeper {
	const struct keeper_libsf *libsf;
	struct loop loop;
	struct source unix_door, tcp_door, watch_pipe, children; /* fd -1: none */
	int watch_write; /* the other end of watch_pipe, for the watchers */
	struct sockaddr_in home; /* the TCP door's address; port 0: not open yet */
	uint8_t token[MPI_TOKEN_BYTES];
	uint32_t last_command;
	unsigned last_peer;
	bool ended;	   /* this VM is a clone of somebody else's making */
	uint64_t since_ns; /* that nobody is here */
	struct peer *peers;
	struct group *groups;
	struct launch *launches;
	struct silence silence;
};

/* ---- keeper.c ---- */

/* Takes the name, and listens. Return: 0; -EADDRINUSE there is a keeper; -errno. */
int keeper_init(struct keeper *keeper, const struct keeper_libsf *libsf);

/* Serves until nobody is here any more. Return: 0 or -errno. */
int keeper_run(struct keeper *keeper);
void keeper_fini(struct keeper *keeper);

/*
 * Opens the TCP door, if it is not open, at the address of ID 0. Return: 0; -errno with a sentence in
 * `why` of `len` bytes.
 */
int keeper_open_tcp(struct keeper *keeper, char *why, size_t len);

/* Closes, in a clone, all that is the parent's. */
void keeper_forget_parent(struct keeper *keeper);

/* Sends a frame to a peer (NULL: to nobody) and frees the payload. Trouble disconnects the peer. */
void peer_say(struct peer *peer, enum mpi_type type, uint32_t number,
	      struct wire_payload *payload);

/* ---- groups.c ---- */

int groups_prepare(struct keeper *keeper);
int groups_want(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload);
int groups_drop(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload);
int groups_end(struct peer *asker, const struct mpi_frame *frame, const uint8_t *payload);

/* An executor calls home. Return: 0; -EPERM there is no such clone, or it has called already. */
int groups_home(struct peer *executor, const struct mpi_hello *hello);

/* A peer goes. */
void groups_lose_asker(struct peer *asker);
void groups_lose_executor(struct peer *executor);

/* Return: a clone with that address, of those that have not ended if there is one; or NULL. */
struct member *groups_find(struct keeper *keeper, const char *address);

/* Has a clone leave, now or when it calls home. */
void member_leave(struct member *member);

/* What is due by now. Return: when to call again, CLOCK_MONOTONIC; UINT64_MAX: not for that. */
uint64_t groups_tick(struct keeper *keeper, uint64_t now_ns);

/* ---- launches.c ---- */

int launches_launch(struct peer *launcher, const struct mpi_frame *frame, const uint8_t *payload);
int launches_output(struct peer *executor, const struct mpi_frame *frame, const uint8_t *payload);
int launches_exited(struct peer *executor, const struct mpi_frame *frame, const uint8_t *payload);

/* Starts in a clone that has just called home what was kept for it. */
void launches_start(struct member *member);

/* Ends all commands of a clone with a sentence. Return: how many there were. */
uint32_t launches_lose(struct member *member, const char *why);
bool launches_any(const struct member *member);
void launches_lose_launcher(struct peer *launcher);

/* True if a launcher that takes no output makes this executor wait. */
bool launches_clogged(const struct peer *executor);
uint64_t launches_tick(struct keeper *keeper, uint64_t now_ns);

#endif
