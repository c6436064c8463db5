/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of libsf know of each other.
 *
 * All functions fail as the public ones do: -1 or NULL, with errno and the sentence set.
 *
 * Locks, none taken while another is held, but for talk_lock (channel.c), which comes last:
 * pool_lock, talk_lock (channel.c), handlers_lock (handlers.c), mine_lock (simple.c),
 * tracker_lock (wait.c).
 */
#ifndef LIBSF_INTERNAL_H
#define LIBSF_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- error.c ---- */

/* Sets errno and this thread's sentence. Return: -1. */
int lsf_fail(int number, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The number of an errno name as on the wire ("ENOSPC"). Return: EIO for a name nobody knows. */
int lsf_errno_number(const char *name, size_t len);

/* ---- channel.c: connections to XenStore ---- */

struct chan;

/* A connection for this thread alone, until lsf_chan_put(). Return: it, or NULL. */
struct chan *lsf_chan_get(void);
void lsf_chan_put(struct chan *chan);

/* Counts the fork()s between the process that loaded the library and this one. */
unsigned lsf_fork_generation(void);

/* Return: the node's value, the caller's to free(). Errors: ENOENT, EACCES. */
char *lsf_chan_read(struct chan *chan, const char *path);

/* Return: the node's children, freed as one by free(); *count says how many. */
char **lsf_chan_list(struct chan *chan, const char *path, unsigned *count);

/* Writes a node, once: it is not tried again if the connection breaks. Return: 0. */
int lsf_chan_write(struct chan *chan, const char *path, const char *value);
void lsf_chan_remove(struct chan *chan, const char *path);

#define CHAN_WATCHES 2 /* at a time on one connection */

/* Watches a node and what is below it until lsf_chan_unwatch_all(). Return: 0. */
int lsf_chan_watch(struct chan *chan, const char *path);
void lsf_chan_unwatch_all(struct chan *chan);

/* Is told the path of each change, or NULL: anything may have changed. */
typedef void chan_event(void *arg, const char *path);

/*
 * Waits for something to change (each() may be NULL). timeout_ms -1: for ever. Return: 1; 0 after
 * the time; -1 with EINTR by a signal, if `interruptible`.
 */
int lsf_chan_wait(struct chan *chan, int timeout_ms, bool interruptible, chan_event *each,
		  void *arg);

/* From now on lsf_chan_wait() also ends, with 1, when `fd` is readable; -1: none. */
void lsf_chan_also(struct chan *chan, int fd);

/* Gives the connection back as it is. Its next user removes `path` and ends its watches. */
void lsf_chan_put_late(struct chan *chan, const char *path);

/* Reads a node that is a number 0…INT_MAX. Return: it. Errors: also EPROTO. */
int lsf_chan_number(struct chan *chan, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The same with a connection of its own. */
int lsf_read_number(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- request.c: asking sfd ---- */

struct lsf_instant;

struct lsf_request {
	struct chan *chan;
	char reply_path[80];
	bool late; /* what is left to tidy waits until the connection is used again */
};

/*
 * Asks and waits for the answer. Return: what is behind "ok ", the caller's to free(), or NULL with
 * the errno and sentence of the answer. lsf_request_end() follows in either case; it may be done
 * late.
 */
char *lsf_request_begin(struct lsf_request *request, int timeout_ms, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void lsf_request_end(struct lsf_request *request);

/*
 * The same for a request that makes clones. Return in the parent: the answer; in a clone NULL with
 * instant->id set, if its agent was faster than XenStore.
 */
char *lsf_request_instant(struct lsf_request *request, struct lsf_instant *instant,
			  const char *text);

/* Asks for something whose answer has no words. Return: 0. */
int lsf_request_simple(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says something that is not answered. Return: 0. */
int lsf_request_tell(struct chan *chan, const char *request);

/* Takes `count` numbers 0…INT_MAX from an answer. Return: 0. Errors: EPROTO. */
int lsf_reply_numbers(const char *reply, int *numbers, unsigned count);

#define REQUEST_TIMEOUT_MS 120000

/* ---- handlers.c: sf_atclone() ---- */

enum handler_time { HANDLER_PREPARE, HANDLER_PARENT, HANDLER_CHILD, HANDLER_TIMES };
void lsf_handlers_run(enum handler_time when);

/* ---- agent-client.c: the agent's socket ---- */

/* One request of proto/agent-socket.h; fd -1: none. timeout_ms -1: for ever. Return: 0. */
int lsf_agent_ask(uint32_t op, uint64_t value, int fd, int timeout_ms);

/*
 * Being told by the agent who this VM is, without XenStore (AGENT_SOCK_AWAIT). All of it may fail
 * and harms nobody then: XenStore has the same answer.
 */
struct lsf_instant {
	int sock; /* to the agent; -1: it is not going to tell */
	int udp;  /* for the first datagram; opened before, so that a clone need not */
	unsigned id, count, checkpoint; /* as told; id 0: not told */
	uint32_t parent;
	uint16_t answer_port;
};

/* Has the agent tell when request `key` has made this VM a clone. lsf_instant_end() follows. */
void lsf_instant_begin(struct lsf_instant *instant, const char *key);
/* Return: true if the agent has told: instant->id is this clone's. */
bool lsf_instant_told(struct lsf_instant *instant);
/* A clone that was told is back from its call: tells ID 0. */
void lsf_instant_arrived(struct lsf_instant *instant);
void lsf_instant_end(struct lsf_instant *instant);

/* ---- others ---- */

/* Fails with ECHILD if this VM is a clone. Return: 0. */
int lsf_must_be_parent(struct chan *chan);

/* Return: the clone's enum sf_state. Errors: ENOENT no such ticket or clone. */
int lsf_clone_state(struct chan *chan, int ticket, unsigned id);

/* The ticket of the last sf_clone() of this process. Errors: ECHILD. */
int lsf_simple_ticket(void);

#endif
