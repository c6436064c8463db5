/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libsf: fork() for the virtual machine this program runs in.
 *
 *	int id = sf_clone(32);		this VM, and up to 32 exact copies of it on other hosts
 *	if (id > 0) {			in a copy: 1, 2, …
 *		work(id, sf_count());
 *		sf_exit(0);		the copy ends
 *	}
 *	sf_join();			in the parent: wait for all of them
 *
 * For all calls: -1 or NULL means an error; errno says which, and sf_error() says it in a sentence.
 * Besides what a call lists, every call may fail with
 *	ENODEV		there is no XenStore here: this is not a Snowflock VM
 *	ENOSYS		there is a XenStore, but nobody who makes clones behind it
 *	ETIMEDOUT	the host did not answer in two minutes
 *	ECONNRESET	the connection to XenStore broke and could not be made again
 *	ENOMEM, EMFILE	as usual
 *
 * Fewer clones than asked for is no error: sf_count() and sf_ticket_granted() tell how many.
 *
 * Threads: every call may be made by any thread at any time; one that waits keeps no other from
 * going on. A thread that is in one of these calls while the VM is cloned by another is in that
 * call in the clone as well, where sf_join…() and sf_wait_any() then fail with ECHILD. After fork()
 * parent and child process may both go on with libsf; the clones made before are the parent
 * process's own, to the child sf_join() says ECHILD. Calls are not async-signal-safe.
 *
 * The same calls work on every host software that keeps a tree like that of
 * proto/xenstore-tree.h in XenStore; libsf finds it through libxenstore and by no other means.
 */
#ifndef SF_H
#define SF_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SF_API __attribute__((visibility("default")))

/* ---- The simple way ---- */

/*
 * Makes up to `n` (1…1024) clones of this VM: asks for a ticket and clones with it at once. All
 * processes and threads of the VM are in the clone too; only the calling thread learns from its
 * return value where it is.
 *
 * Return: 0 in the parent, 1…sf_count() in the clones.
 * Errors (in the parent; no clone was made): EINVAL n is 0 or too large; EBUSY another clone
 * operation is under way; ENOSPC no host has room; EDQUOT too many tickets; ENOTSUP this VM is a
 * clone itself; EHOSTDOWN the hosts refused or were lost; ETIMEDOUT the VM did not get quiet; EIO.
 */
SF_API int sf_clone(unsigned n);

/*
 * Waits until every clone made by sf_clone() in this process and not joined yet has ended, well or
 * not: sf_status() tells how each did. Signals do not interrupt it.
 *
 * Return: 0. Errors: ECHILD nothing to wait for, or this VM is a clone.
 */
SF_API int sf_join(void);

/*
 * Ends this VM, which must be a clone, with `status` (0–255; the lower 8 bits count). What stdio
 * holds is written out first, atexit() functions are not run, disks are not flushed: the disk goes
 * with the VM. Results given to sf_set_result() are with the parent already.
 *
 * Does not return. In a VM that is no clone (EPERM), or if the host cannot be asked, a sentence on
 * standard error says so and the process alone ends, by exit(status).
 */
SF_API void sf_exit(int status) __attribute__((noreturn));

/* ---- Who am I ---- */

/* Return: 0 in a VM that was booted, 1… in a clone. */
SF_API int sf_id(void);

/* Return: how many clones the operation made that this VM last took part in; 0 before the first. */
SF_API int sf_count(void);

#define SF_ADDRESS_BYTES 46 /* room for any address as text, with its zero byte */

/*
 * Writes the address of VM `id` (0: the parent) on the private network of parent and clones as text
 * fit for getaddrinfo(), in `text` of `len` bytes (SF_ADDRESS_BYTES are always enough). In the
 * parent, an id of the last sf_clone() of this process or else of the VM's last clone operation.
 *
 * Return: 0. Errors: ENOENT there is no such id, or no network; ENOSPC `len` is too small.
 */
SF_API int sf_address(unsigned id, char *text, size_t len);

/* ---- Results ---- */

/*
 * Gives `len` bytes at `data` to the parent as this clone's result; back when they are safe with
 * the host. A second result replaces the first.
 *
 * Return: 0. Errors: EPERM this VM is no clone; EFBIG over 256 MiB; EIO.
 */
SF_API int sf_set_result(const void *data, size_t len);

/*
 * The same with all of a file (regular, or a memfd), which stays the caller's. Errors: also EINVAL.
 */
SF_API int sf_set_result_fd(int fd);

/*
 * The result of clone `id` of the last sf_clone() of this process, once it exited. The bytes are
 * the caller's to free(); a zero byte, not counted, is behind them. `len` may be NULL.
 *
 * Return: the bytes. Errors: ENODATA it ended without a result; EAGAIN it has not ended; ENOENT
 * no such clone; ECHILD nothing was cloned here.
 */
SF_API void *sf_result(unsigned id, size_t *len);

enum sf_state {
	SF_STATE_STARTING, /* on its way */
	SF_STATE_RUNNING,
	SF_STATE_EXITED, /* by sf_exit(): `status` counts */
	SF_STATE_KILLED, /* by sf_kill_ticket() or the operator: see `reason` */
	SF_STATE_LOST,	 /* its host or its VM went away: see `reason` */
	SF_STATE_FAILED	 /* never ran: see `reason` */
};

/* True for a state a clone stays in for good. */
#define SF_STATE_ENDED(state) ((state) >= SF_STATE_EXITED)

struct sf_status {
	enum sf_state state;
	int status;	      /* 0–255 when exited, else -1 */
	int64_t result_bytes; /* of its result; -1: none */
	char host[64];	      /* where it runs or ran; may be empty */
	char reason[256];     /* a sentence; may be empty */
	uint64_t reserved[8]; /* 0 */
};

/*
 * Writes to `status` how clone `id` of the last sf_clone() of this process is.
 *
 * Return: 0. Errors: ENOENT no such clone; ECHILD nothing was cloned here.
 */
SF_API int sf_status(unsigned id, struct sf_status *status);

/* ---- Tickets: room for clones, ready before they are needed ---- */

/*
 * Wishes for a ticket. Begin with SF_HINTS_INIT; 0 means no wish. `size` is how the structure may
 * grow: fields that a caller does not know stay at 0.
 */
struct sf_hints {
	size_t size;	   /* sizeof(struct sf_hints) */
	unsigned vcpus;	   /* virtual CPUs of each clone */
	unsigned per_host; /* at most so many on one host */
	unsigned min;	   /* fewer than so many are of no use: fail instead */
};
#define SF_HINTS_INIT { sizeof(struct sf_hints), 0, 0, 0 }

/*
 * Asks for room for up to `n` (1…1024) clones. The hosts prepare them, so that sf_clone_ticket() is
 * quick. `hints` may be NULL. A ticket is a number, good in every process of the VM; it is given
 * back by sf_ticket_free().
 *
 * Return: the ticket, 1 or more. Errors: EINVAL n or a hint is out of range; E2BIG a hint is
 * set that this library does not know; ENOSPC no host has room, or not for `min`; EDQUOT too
 * many tickets; ENOTSUP this VM is a clone; EHOSTDOWN hosts refused or were lost.
 */
SF_API int sf_request_ticket(unsigned n, const struct sf_hints *hints);

/* Return: how many clones the ticket is good for. Errors: ENOENT no such ticket. */
SF_API int sf_ticket_granted(int ticket);

/* Return: the ticket of the VM's last clone operation, by any process. Errors: ECHILD none yet. */
SF_API int sf_last_ticket(void);

/*
 * Gives a ticket back that is not to be used, or whose clones have all ended; their states and
 * results go with it. A ticket that is not given back stays until the VM ends.
 *
 * Return: 0. Errors: EBUSY clones of it live; ENOENT no such ticket.
 */
SF_API int sf_ticket_free(int ticket);

/*
 * Clones this VM with a ticket: as many clones as it was granted for. A ticket is good for one
 * operation.
 *
 * Return: 0 in the parent, 1…sf_count() in the clones. Errors: as sf_clone(); ENOENT no such
 * ticket.
 */
SF_API int sf_clone_ticket(int ticket);

/*
 * Waits until every clone of a ticket ended. Signals do not interrupt it. Any process of the parent
 * may.
 *
 * Return: 0. Errors: ENOENT no such ticket; ECHILD nothing was cloned with it, or this VM is a
 * clone.
 */
SF_API int sf_join_ticket(int ticket);

/*
 * Waits until a clone of the ticket has ended that this process was not told of by this call yet.
 * `timeout_ms` in milliseconds; -1: as long as it takes. One thread at a time for each ticket.
 *
 * Return: the clone's id; 0 when all have ended and were told of (asked again, it starts over).
 * Errors: ETIMEDOUT; EINTR by a signal; EBUSY another thread is waiting; and as sf_join_ticket().
 */
SF_API int sf_wait_any(int ticket, int timeout_ms);

/*
 * Ends what is left of a ticket's clones; back when the hosts were told. They count as killed.
 *
 * Return: 0. Errors: ENOENT no such ticket; EPERM, ENOTSUP this VM is a clone.
 */
SF_API int sf_kill_ticket(int ticket);

/*
 * As sf_status(), sf_result() and sf_address(), for a ticket's clone. Errors: also ENOENT no such
 * ticket.
 */
SF_API int sf_status_ticket(int ticket, unsigned id, struct sf_status *status);
SF_API void *sf_result_ticket(int ticket, unsigned id, size_t *len);
SF_API int sf_address_ticket(int ticket, unsigned id, char *text, size_t len);

/* ---- Checkpoints: an instant to clone from later ---- */

/*
 * Keeps this instant of the VM and writes its number, good in every process of the VM, to
 * `checkpoint`. It is given back by sf_checkpoint_free().
 *
 * Return: 0 here; 1… again in every clone that sf_create_clones() makes of it (where the
 * number is of no further use). Errors: as sf_clone(); EINVAL.
 */
SF_API int sf_checkpoint_parent(int *checkpoint);

/*
 * Gives a checkpoint back; clones made of it go on. In a clone, whose checkpoints are its parent's,
 * it does nothing.
 *
 * Return: 0. Errors: ENOENT no such checkpoint.
 */
SF_API int sf_checkpoint_free(int checkpoint);

/*
 * Makes clones that begin at a checkpoint, as many as the ticket was granted for. They come back
 * from sf_checkpoint_parent(). The ticket is joined as any.
 *
 * Return: how many were made. Errors: ENOENT no such checkpoint or ticket; EBUSY the ticket is in
 * use; EHOSTDOWN; ENOTSUP this VM is a clone.
 */
SF_API int sf_create_clones(int checkpoint, int ticket);

/* ---- And ---- */

/*
 * Has functions called around every sf_clone…() and sf_checkpoint_parent() of this process, in the
 * thread that calls it: `prepare` before, in reverse order of registration; then, in order,
 * `parent` in the parent (also when the call fails) or `child` in a clone, before the call returns.
 * Any may be NULL. They are not called in clones that other processes of the VM asked for.
 *
 * Return: 0. Errors: ENOMEM.
 */
SF_API int sf_atclone(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/*
 * Return: the sentence for the last error of a libsf call in this thread; empty before the first.
 * Good until the thread's next failing call.
 */
SF_API const char *sf_error(void);

/* Return: the library's version, as in "0.1.0". */
SF_API const char *sf_version(void);

#ifdef __cplusplus
}
#endif

#endif
