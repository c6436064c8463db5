/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sf-memtap of a family on this host, or of one of its disks, and the keeping of what must
 * outlive it. To that of a disk, the disk is what RAM is to the other.
 *
 * Everything said to sf-memtap (proto/memtap.h) is remembered here with its descriptors. When the
 * process dies another one is started and told again; requests without an answer are sent again.
 * After PAGER_MAX_DEATHS deaths in PAGER_DEATHS_S seconds it is given up: `failed` is called.
 */
#ifndef HOST_SFD_PAGER_H
#define HOST_SFD_PAGER_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/sfd/daemon.h"
#include "proto/memtap.h"

struct disk_stack;
struct pager;
struct route;

/*
 * The answer to a request; for MEMTAP_STATS `reply` is the head of a struct memtap_stats. Without
 * a reply: -EPIPE, it was given up, and whatever is said then fails at once; -ECANCELED,
 * pager_stop().
 */
typedef void pager_done(void *arg, int error, const struct memtap_reply *reply);

/*
 * Starts it as user `uid`, with a UDP socket on this host's address (*port gets its port), and one
 * that hears `group` if that is possible here. Return:
 * the pager, to pager_stop(), or NULL with a sentence. `failed(arg)`: it cannot be kept alive.
 */
struct pager *pager_start(struct daemon *d, const char *name, uid_t uid, uint64_t ram_bytes,
			  const struct sockaddr_in *group, uint16_t *port, void (*failed)(void *arg), void *arg,
			  char why[WHY_BYTES]);
void pager_stop(struct pager *p);
pid_t pager_pid(const struct pager *p);

/* The VM that was booted. Takes `uffd`; `ram_fd` is borrowed. */
int pager_parent(struct pager *p, int uffd, int ram_fd, uint64_t base, pager_done *done, void *arg);

/* A new, empty page file. Return: its number, or -errno. */
int pager_file_new(struct pager *p);
/* Its pages, for clones to map. Return: the descriptor, the pager's. */
int pager_file_fd(struct pager *p, unsigned file);
/* What the pages in all files take, in bytes. */
uint64_t pager_stored_bytes(const struct pager *p);
/* No one needs it here any more. */
void pager_file_gone(struct pager *p, unsigned file);

/*
 * See MEMTAP_ARM, MEMTAP_BEGIN, MEMTAP_BEGIN_LOCAL. `route`: how its pages travel; who arms is node
 * 0 of it. `dead_fd`: the dead pages, borrowed for the call; -1: none.
 */
int pager_arm(struct pager *p, unsigned file, uint64_t snapshot,
	      const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, int dead_fd,
	      pager_done *done, void *arg);
/* See MEMTAP_LAYERS: the snapshot of a disk. */
int pager_layers(struct pager *p, unsigned file, uint64_t snapshot,
		 const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route,
		 const struct disk_stack *stack);
int pager_begin(struct pager *p, unsigned file, uint64_t snapshot,
		const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, uint32_t node,
		int dead_fd);
int pager_begin_local(struct pager *p, unsigned file, unsigned other, int dead_fd);

/* A clone's window, see MEMTAP_CLONE. */
struct pager_window {
	int fd;		/* borrowed for the call; -1: it has none */
	uint32_t pages; /* without the letter's */
	uint64_t first; /* as a page of the file */
};

/* A clone maps `file`. Takes `uffd`. *vm gets the clone's number here. */
int pager_clone(struct pager *p, unsigned file, int uffd, uint64_t base,
		const struct pager_window *window, uint32_t *vm, pager_done *done, void *arg);
void pager_clone_gone(struct pager *p, uint32_t vm);

/* Counters of one clone, or MEMTAP_ALL. */
int pager_stats(struct pager *p, uint32_t vm, pager_done *done, void *arg);

/* No callback with this argument any more. */
void pager_forget(struct pager *p, void *arg);

#endif
