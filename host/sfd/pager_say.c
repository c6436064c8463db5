/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The messages to sf-memtap, made of what they are about. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "host/sfd/disk.h"
#include "host/sfd/image.h"
#include "host/sfd/pager_internal.h"

int pager_parent(struct pager *p, int uffd, int ram_fd, uint64_t base, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_PARENT, .base = base, .bytes = p->ram_bytes };
	int fds[2] = { uffd, ram_fd };
	int rc = pager_say(p, &r, fds, 2, 0, true, done, arg);

	close(uffd);
	return rc;
}

/* A memfd that any user who is handed it may open again: QEMU does, by /proc/self/fd. */
static int make_memfd(const char *name, uint64_t bytes)
{
	_cleanup_fd_ int fd = memfd_create(name, MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) || fchmod(fd, 0666))
		return -errno;
	return steal_fd(&fd);
}

int pager_file_new(struct pager *p)
{
	struct memtap_request r = { .op = MEMTAP_FILE };
	_cleanup_fd_ int pages = -1, map = -1;
	int fds[2], rc;

	while (r.file < MEMTAP_MAX_FILES && p->page_fds[r.file] >= 0)
		r.file++;
	if (r.file == MEMTAP_MAX_FILES)
		return -ENFILE;
	pages = make_memfd("sf-pages", p->ram_bytes);
	map = make_memfd("sf-map", p->ram_bytes / MEMTAP_PAGE_BYTES);
	if (pages < 0 || map < 0)
		return pages < 0 ? pages : map;
	fds[0] = pages;
	fds[1] = map;
	rc = pager_say(p, &r, fds, 2, 0, true, NULL, NULL);
	if (rc)
		return rc;
	p->page_fds[r.file] = steal_fd(&pages);
	return (int)r.file;
}

int pager_file_fd(struct pager *p, unsigned file)
{
	return p->page_fds[file];
}

uint64_t pager_stored_bytes(const struct pager *p)
{
	uint64_t bytes = 0;
	struct stat st;

	for (unsigned i = 0; i < MEMTAP_MAX_FILES; i++) {
		if (p->page_fds[i] >= 0 && !fstat(p->page_fds[i], &st))
			bytes += (uint64_t)st.st_blocks * 512;
	}
	return bytes;
}

void pager_file_gone(struct pager *p, unsigned file)
{
	struct memtap_request r = { .op = MEMTAP_FILE_GONE, .file = file };

	pager_say(p, &r, NULL, 0, 0, false, NULL, NULL);
}

/* What goes with a message, after the places of the nodes. */
struct enclosed {
	const int *fds;
	unsigned nfds;
	bool once; /* the last one is not said again */
};

/* The dead pages, or nothing. */
static struct enclosed dead_pages(const int *dead_fd)
{
	bool there = *dead_fd >= 0;

	return (struct enclosed){ .fds = dead_fd, .nfds = there, .once = there };
}

/* Says something with the places, if there are any, and what else belongs to it. */
static int say_enclosed(struct pager *p, const struct memtap_request *r, int nodes_fd,
			const struct enclosed *with, pager_done *done, void *arg)
{
	int fds[2 + 2 * MEMTAP_MAX_LAYERS];
	unsigned nfds = 0;

	if (nodes_fd >= 0)
		fds[nfds++] = nodes_fd;
	memcpy(&fds[nfds], with->fds, with->nfds * sizeof(*fds));
	return pager_say(p, r, fds, nfds + with->nfds, with->once, true, done, arg);
}

/* Says how a file's pages travel: by unicast, nobody needs to know of the others. */
static int say_route(struct pager *p, struct memtap_request *r, const struct route *route,
		     uint32_t node, const struct enclosed *with, pager_done *done, void *arg)
{
	_cleanup_fd_ int nodes = -1;
	size_t len = route->nodes * sizeof(*route->at);

	r->mode = route->mode;
	r->push_pages_per_s = route->push_pages;
	r->compress = route->compress;
	if (route->mode != MC_UNICAST) {
		r->node = node;
		r->nodes = route->nodes;
		r->group = memtap_at(p->group.sin_addr, ntohs(p->group.sin_port));
		nodes = memfd_create("sf-nodes", MFD_CLOEXEC);
		if (nodes < 0 || pwrite(nodes, route->at, len, 0) != (ssize_t)len)
			return nodes < 0 ? -errno : -ENOMEM;
	}
	return say_enclosed(p, r, nodes, with, done, arg);
}

int pager_arm(struct pager *p, unsigned file, uint64_t snapshot,
	      const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, int dead_fd,
	      pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_ARM, .file = file, .snapshot = snapshot };
	struct enclosed with = dead_pages(&dead_fd);

	memcpy(r.key, key, sizeof(r.key));
	return say_route(p, &r, route, 0, &with, done, arg);
}

int pager_layers(struct pager *p, unsigned file, uint64_t snapshot,
		 const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route,
		 const struct disk_stack *stack)
{
	struct memtap_request r = { .op = MEMTAP_LAYERS,
				    .file = file,
				    .snapshot = snapshot,
				    .vm = 1,
				    .arg = stack->count };
	int fds[1 + 2 * MEMTAP_MAX_LAYERS];
	struct enclosed with = { .fds = fds };

	_Static_assert(MEMTAP_MAX_LAYERS >= VDISK_MAX_LAYERS, "memtap takes every stack");
	memcpy(r.key, key, sizeof(r.key));
	fds[with.nfds++] = image_fd(stack->image);
	for (unsigned i = 0; i < stack->count; i++) {
		fds[with.nfds++] = stack->layers[i]->file;
		fds[with.nfds++] = stack->layers[i]->map;
	}
	return say_route(p, &r, route, 0, &with, NULL, NULL);
}

int pager_begin(struct pager *p, unsigned file, uint64_t snapshot,
		const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, uint32_t node,
		int dead_fd)
{
	struct memtap_request r = { .op = MEMTAP_BEGIN,
				    .file = file,
				    .snapshot = snapshot,
				    .source = route->at[0] };
	struct enclosed with = dead_pages(&dead_fd);

	memcpy(r.key, key, sizeof(r.key));
	return say_route(p, &r, route, node, &with, NULL, NULL);
}

int pager_begin_local(struct pager *p, unsigned file, unsigned other, int dead_fd)
{
	struct memtap_request r = { .op = MEMTAP_BEGIN_LOCAL, .file = file, .other = other };

	struct enclosed with = dead_pages(&dead_fd);

	return say_enclosed(p, &r, -1, &with, NULL, NULL);
}

int pager_clone(struct pager *p, unsigned file, int uffd, uint64_t base,
		const struct pager_window *window, uint32_t *vm, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_CLONE,
				    .file = file,
				    .vm = p->next_vm++,
				    .base = base,
				    .bytes = p->ram_bytes };
	int fds[2] = { uffd, window->fd };
	int rc;

	if (window->fd >= 0) {
		r.window = window->first;
		r.window_pages = window->pages;
	}
	rc = pager_say(p, &r, fds, window->fd >= 0 ? 2 : 1, 0, true, done, arg);
	close(uffd);
	*vm = r.vm;
	return rc;
}

void pager_clone_gone(struct pager *p, uint32_t vm)
{
	struct memtap_request r = { .op = MEMTAP_CLONE_GONE, .vm = vm };

	pager_unkeep_clone(p, vm);
	pager_say(p, &r, NULL, 0, 0, false, NULL, NULL);
}

int pager_stats(struct pager *p, uint32_t vm, pager_done *done, void *arg)
{
	struct memtap_request r = { .op = MEMTAP_STATS, .vm = vm };

	return pager_say(p, &r, NULL, 0, 0, false, done, arg);
}
