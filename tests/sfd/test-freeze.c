/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The freeze with doubles of all it calls: a QEMU, an sf-memtap, an agent and a kernel module that
 * do what the test says, when it says so. Whatever they do, the guest goes on, in the way it waits
 * for, and whoever asked hears why there is no clone.
 */
#include <CUnit/Basic.h>
#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "host/sfd/clones.h"
#include "host/sfd/guest.h"
#include "host/sfd/window.h"

#define RAM_BYTES (64ull << 20)
#define CLONES	  3
#define LIMIT_MS  5600 /* of the quiet and of the hold: both have 5 s */

/* A guest, and what was done to it. */
struct world {
	struct guest guest; /* first */
	struct family family;
	struct ticket ticket;
	struct child children[CLONES];
	struct instant *started; /* a reference */
	vmm_done *saved, *continued;
	pager_done *armed;
	void *saved_arg, *continued_arg, *armed_arg;
	uint64_t op; /* of the last AGENT_QUIESCE, which had … */
	bool may_hold;
	bool held_port, held_xs;
	disk_done *frozen[2]; /* by disk */
	void *frozen_arg;
	unsigned shared, tidied; /* disks */
	unsigned saves, conts, arms, frames, settled;
	uint64_t dead_bytes;	/* of the descriptor that came with the arming */
	uint64_t first_dead;	/* word */
	char answer[512];
	char failed[WHY_BYTES];
	struct vmm_times times;
};

static struct event_base *base;
static struct host the_hosts[] = { { .up = true }, { .up = true, .addr.s_addr = 2 } };
static struct daemon the_daemon = { .hosts = the_hosts, .host_count = 2, .self = the_hosts };
static const struct agent_window window = { .gfn = 96, .pages = 2 };

static struct world *to_world(const struct vm *vm)
{
	return (struct world *)vm; /* guest.vm is its first member's first */
}

/* ---- doubles ---- */

int clones_lot_file(struct family *f, unsigned ticket)
{
	(void)f, (void)ticket;
	return 5;
}

int family_file_new(struct family *f)
{
	(void)f;
	return 6;
}

void family_file_get(struct family *f, unsigned file)
{
	f->file_refs[file]++;
}

void family_file_put(struct family *f, unsigned file)
{
	f->file_refs[file]--;
}

void guest_settle(struct guest *g, const char *key)
{
	(void)key;
	to_world(&g->vm)->settled++;
}

json_t *stream_list(struct guest *g)
{
	(void)g;
	return json_array();
}

void ticket_start(struct ticket *t, struct instant *instant, uint64_t start_ns, double pause_ms)
{
	(void)start_ns;
	CU_ASSERT(pause_ms >= 0 && pause_ms < LIMIT_MS);
	to_world(&t->guest->vm)->started = instant_get(instant);
}

int pager_arm(struct pager *p, unsigned file, uint64_t snapshot,
	      const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route, int dead_fd,
	      pager_done *done, void *arg)
{
	struct world *w = (struct world *)p;

	(void)file, (void)snapshot, (void)key;
	CU_ASSERT_EQUAL(route->nodes, file == 6 ? 1 : 2); /* nobody yet, of a checkpoint */
	w->arms++;
	w->armed = done;
	w->armed_arg = arg;
	if (dead_fd >= 0) {
		w->dead_bytes = (uint64_t)lseek(dead_fd, 0, SEEK_END);
		CU_ASSERT_EQUAL(pread(dead_fd, &w->first_dead, 8, 0), 8);
	}
	return 0;
}

int pager_file_new(struct pager *p)
{
	(void)p;
	return 3;
}

void pager_file_gone(struct pager *p, unsigned file)
{
	(void)p;
	CU_ASSERT_EQUAL(file, 3);
}

int pager_layers(struct pager *p, unsigned file, uint64_t snapshot,
		 const uint8_t key[MEMTAP_KEY_BYTES], const struct route *route,
		 const struct disk_stack *stack)
{
	struct world *w = (struct world *)p;

	(void)snapshot, (void)key;
	CU_ASSERT(file == 3 && stack->count == 1 && !w->conts);
	CU_ASSERT(route->nodes == 2 && !route->push_pages);
	w->shared++;
	return 0;
}

/* A disk is its number, from 1 on, in the world's place. */
static struct world *the_world;

int disk_prepare(struct disk *k)
{
	(void)k;
	return 0;
}

int disk_freeze(struct disk *k, disk_done *done, void *arg)
{
	CU_ASSERT(the_world->saves && !the_world->conts);
	the_world->frozen[(uintptr_t)k - 1] = done;
	the_world->frozen_arg = arg;
	return 0;
}

void disk_frozen(const struct disk *k, struct disk_stack *stack)
{
	(void)k;
	stack->count = 1;
}

void disk_stack_fini(struct disk_stack *stack)
{
	stack->count = 0;
}

void disk_tidy(struct disk *k)
{
	(void)k;
	CU_ASSERT(the_world->conts);
	the_world->tidied++;
}

void disk_forget(struct disk *k, void *arg)
{
	(void)k, (void)arg;
}

void pager_forget(struct pager *p, void *arg)
{
	(void)p, (void)arg;
}

int vmm_save(struct vmm *vm, int fd, vmm_done *done, void *arg)
{
	struct world *w = (struct world *)vm;

	CU_ASSERT_EQUAL(pwrite(fd, "state", 5, 0), 5);
	w->saves++;
	w->saved = done;
	w->saved_arg = arg;
	w->times.stop_ns = io_now_ns();
	return 0;
}

int vmm_cont(struct vmm *vm, vmm_done *done, void *arg)
{
	struct world *w = (struct world *)vm;

	w->conts++;
	w->continued = done;
	w->continued_arg = arg;
	return 0;
}

const struct vmm_times *vmm_times(const struct vmm *vm)
{
	return &((const struct world *)vm)->times;
}

uint64_t xs_received(const struct xs_server *xs)
{
	(void)xs;
	return 77;
}

uint64_t xs_sent(const struct xs_server *xs)
{
	(void)xs;
	return 88;
}

bool xs_at_boundary(const struct xs_server *xs)
{
	(void)xs;
	return true;
}

void xs_hold(struct xs_server *xs, bool held)
{
	((struct world *)xs)->held_xs = held;
}

uint8_t *xs_save(const struct xs_server *xs, size_t *len)
{
	(void)xs;
	*len = 4;
	return (uint8_t *)strdup("tree");
}

void agent_port_hold(struct agent_port *port, bool held)
{
	((struct world *)port)->held_port = held;
}

void agent_port_send_now(struct agent_port *port, enum agent_type type, const void *payload,
			 size_t len)
{
	const struct agent_quiesce *q = payload;
	struct world *w = (struct world *)port;

	CU_ASSERT(type == AGENT_QUIESCE && len == sizeof(*q));
	w->op = q->op;
	w->may_hold = q->flags & AGENT_Q_HOLD;
}

void vm_identity(const struct vm *vm, struct agent_resume *resume)
{
	(void)vm;
	resume->address = 1;
}

void vm_resume(struct vm *vm, struct agent_resume *resume)
{
	struct world *w = to_world(vm);

	CU_ASSERT_EQUAL(resume->op, w->op);
	w->frames++;
}

void vm_fail(struct vm *vm, const char *why)
{
	snprintf(to_world(vm)->failed, WHY_BYTES, "%s", why);
}

void vm_answer(struct vm *vm, const char *key, const char *format, ...)
{
	va_list args;

	CU_ASSERT_STRING_EQUAL(key, "1-0-x");
	va_start(args, format);
	vsnprintf(to_world(vm)->answer, sizeof(to_world(vm)->answer), format, args);
	va_end(args);
}

void vm_answer_error(struct vm *vm, const char *key, int error, const char *format, ...)
{
	struct world *w = to_world(vm);
	int len = snprintf(w->answer, sizeof(w->answer), "error %d ", error);
	va_list args;

	CU_ASSERT_STRING_EQUAL(key, "1-0-x");
	va_start(args, format);
	vsnprintf(w->answer + len, sizeof(w->answer) - (size_t)len, format, args);
	va_end(args);
}

/* ---- what the parts do ---- */

static void loop(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
}

/* A guest with a module whose window is `has`, and a ticket prepared for `prepared`. */
static struct world *world_new(const struct agent_window *has, const struct agent_window *prepared)
{
	struct world *w = calloc(1, sizeof(*w));
	struct guest *g = &w->guest;

	g->vm.daemon = &the_daemon;
	g->vm.family = &w->family;
	g->vm.vmm = (struct vmm *)w;
	g->vm.xs = (struct xs_server *)w;
	g->vm.agent = (struct agent_port *)w;
	w->family.pager = (struct pager *)w;
	w->family.ram_bytes = RAM_BYTES;
	w->family.file_refs[5] = w->family.file_refs[6] = 1;
	g->ram_fd = memfd_create("ram", MFD_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(ftruncate(g->ram_fd, RAM_BYTES), 0);
	g->window = *has;
	g->next_checkpoint = 1;
	w->ticket = (struct ticket){ .guest = g, .number = 1, .children = w->children, .count = CLONES };
	for (unsigned i = 0; i < CLONES; i++)
		w->children[i] = (struct child){ .host = &the_hosts[i % 2],
						 .pages_port = 9,
						 .disk_ports = { 7, 8 } };
	w->ticket.window = *prepared;
	return w;
}

static void world_free(struct world *w)
{
	struct checkpoint *c = LIST_FIRST(&w->guest.checkpoints);

	freeze_cancel(&w->guest);
	instant_put(w->started);
	if (c)
		instant_put(c->instant);
	free(c);
	CU_ASSERT_EQUAL(w->family.file_refs[5], 1);
	close(w->guest.ram_fd);
	free(w);
}

static const struct agent_window none;

/* A clone operation of a guest with the module, up to where its agent is asked to get quiet. */
static struct world *world_asked(void)
{
	struct world *w = world_new(&window, &window);

	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	loop();
	CU_ASSERT(w->op && w->may_hold && w->held_port && w->held_xs);
	return w;
}

static void agent_quiet(struct world *w, const struct agent_window *holds)
{
	struct agent_quiesce q = { .op = w->op,
				   .xs_sent = 77,
				   .flags = holds->pages ? AGENT_Q_HOLD : 0,
				   .window = *holds };

	freeze_quiesced(&w->guest, &q);
}

static struct sfk_window module_head(struct world *w)
{
	return (struct sfk_window){ .magic = SFK_MAGIC,
				    .version = SFK_VERSION,
				    .gfn = window.gfn,
				    .pages = window.pages,
				    .bits = RAM_BYTES / SFK_PAGE_BYTES,
				    .held_op = w->op,
				    .hold_ns = 300000,
				    .state = SFK_HELD };
}

static void module_write(struct world *w, const struct sfk_window *head)
{
	static const uint64_t dead[2] = { 0xf0, ~0ull };

	CU_ASSERT_EQUAL(pwrite(w->guest.ram_fd, head, sizeof(*head),
			       (off_t)window_offset(&window)),
			(ssize_t)sizeof(*head));
	CU_ASSERT_EQUAL(pwrite(w->guest.ram_fd, dead, sizeof(dead),
			       (off_t)window_offset(&window) + SFK_PAGE_BYTES),
			(ssize_t)sizeof(dead));
}

static void module_holds(struct world *w)
{
	struct sfk_window head = module_head(w);

	module_write(w, &head);
}

static void module_goes_on(struct world *w)
{
	struct sfk_window head = module_head(w);

	head.state = SFK_IDLE;
	module_write(w, &head);
}

/* Its family has two disks. */
static void world_add_disks(struct world *w)
{
	the_world = w;
	w->family.daemon = &the_daemon;
	w->family.disk_count = 2;
	for (unsigned i = 0; i < 2; i++) {
		w->family.disks[i].pager = (struct pager *)w;
		w->guest.vm.disks[i] = (struct disk *)(uintptr_t)(i + 1);
	}
}

static void disk_answers(struct world *w, unsigned disk, int error)
{
	disk_done *done = steal_ptr(&w->frozen[disk]);

	CU_ASSERT_PTR_NOT_NULL_FATAL(done);
	done(w->frozen_arg, error);
}

static void bell(struct world *w)
{
	freeze_doorbell(&w->guest);
}

static void qemu_saved(struct world *w, int error)
{
	vmm_done *done = steal_ptr(&w->saved);

	CU_ASSERT_PTR_NOT_NULL_FATAL(done);
	w->times.stopped_ns = w->times.saved_ns = io_now_ns();
	done(w->saved_arg, error, error ? "no reason" : "");
}

static void memtap_armed(struct world *w, int error)
{
	struct memtap_reply reply = { .op = MEMTAP_ARM };
	pager_done *done = steal_ptr(&w->armed);

	CU_ASSERT_PTR_NOT_NULL_FATAL(done);
	done(w->armed_arg, error, error ? NULL : &reply);
}

static void qemu_continued(struct world *w)
{
	vmm_done *done = steal_ptr(&w->continued);

	CU_ASSERT_PTR_NOT_NULL_FATAL(done);
	w->times.running_ns = io_now_ns();
	done(w->continued_arg, 0, "");
}

/* ---- what came of it ---- */

/* Return: the letter in its window was for this operation, and told of so many clones. */
static bool letter_says(struct world *w, unsigned count)
{
	struct sfk_letter letter;
	struct agent_resume note;

	if (pread(w->guest.ram_fd, &letter, sizeof(letter),
		  (off_t)(window_offset(&window) + WINDOW_HEAD_BYTES)) != sizeof(letter))
		return false;
	memcpy(&note, letter.note, sizeof(note));
	return letter.turn == w->op && !letter.id && note.op == w->op && !note.id &&
	       note.count == count;
}

static bool no_letter(struct world *w)
{
	uint64_t turn = 1;

	return pread(w->guest.ram_fd, &turn, sizeof(turn),
		     (off_t)(window_offset(&window) + WINDOW_HEAD_BYTES)) == sizeof(turn) &&
	       !turn;
}

/* The operation is over, the guest may talk, and was answered once, like this. */
static bool over(struct world *w, const char *answer)
{
	if (!strstr(w->answer, answer))
		printf("answer: %s\n", w->answer);
	return !w->guest.freeze && !w->held_port && !w->held_xs && w->settled == 1 &&
	       strstr(w->answer, answer) && !*w->failed;
}

/* From the stop of a held guest on, all well. */
static void finish_held(struct world *w)
{
	qemu_saved(w, 0);
	CU_ASSERT(w->arms == 1 && no_letter(w));
	/* the window's own pages are 96 and 97 */
	CU_ASSERT(w->dead_bytes == RAM_BYTES / SFK_PAGE_BYTES / 8 && w->first_dead == 0xf0);
	memtap_armed(w, 0);
	CU_ASSERT(letter_says(w, CLONES));
	CU_ASSERT_PTR_NULL(w->started);
	qemu_continued(w);
	CU_ASSERT(over(w, "ok 0 3") && w->frames == 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w->started);
	CU_ASSERT(window_same(&w->started->window, &window));
	CU_ASSERT(w->started->dead_pages == 4 + 62 && w->started->descriptor_bytes == 5);
	CU_ASSERT(w->started->head.held_op == w->op && w->started->quiesce == w->op);
	CU_ASSERT(instant_fits(w->started, &w->ticket));
	w->ticket.window.gfn++;
	CU_ASSERT_FALSE(instant_fits(w->started, &w->ticket));
}

static void test_held(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	CU_ASSERT_EQUAL(w->saves, 1);
	module_holds(w);
	bell(w);
	finish_held(w);
	CU_ASSERT(w->saves == 1 && w->conts == 1);
	world_free(w);
}

/* The bell overtakes the agent's frame: the two go different ways. */
static void test_bell_first(void)
{
	struct world *w = world_asked();

	module_holds(w);
	bell(w);
	CU_ASSERT_EQUAL(w->saves, 0);
	agent_quiet(w, &window);
	finish_held(w);
	world_free(w);
}

static void test_bell_never_heard(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	module_holds(w);
	finish_held(w);
	world_free(w);
}

static void test_saved_too_early(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	qemu_saved(w, 0);
	CU_ASSERT(w->conts == 1 && w->arms == 0 && no_letter(w));
	qemu_continued(w);
	bell(w); /* by somebody else in the guest: it is not held */
	CU_ASSERT_EQUAL(w->saves, 1);
	module_holds(w);
	bell(w);
	bell(w);
	CU_ASSERT_EQUAL(w->saves, 2);
	finish_held(w);
	world_free(w);
}

static void test_rung_while_nobody_listened(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	qemu_saved(w, 0);
	module_holds(w);
	qemu_continued(w);
	CU_ASSERT_EQUAL(w->saves, 2);
	finish_held(w);
	world_free(w);
}

static void test_no_module(void)
{
	struct world *w = world_new(&none, &none);

	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	loop();
	CU_ASSERT(w->op && !w->may_hold);
	bell(w);
	agent_quiet(w, &none);
	bell(w);
	qemu_saved(w, 0);
	CU_ASSERT(w->arms == 1 && !w->dead_bytes);
	memtap_armed(w, 0);
	CU_ASSERT(no_letter(w));
	qemu_continued(w);
	CU_ASSERT(over(w, "ok 0 3") && w->frames == 1);
	CU_ASSERT(w->started && !w->started->window.pages && !w->started->dead);
	CU_ASSERT(instant_fits(w->started, &w->ticket));
	w->ticket.window = window;
	CU_ASSERT_FALSE(instant_fits(w->started, &w->ticket));
	world_free(w);
}

/* A guest with two disks, up to where it is saved. */
static struct world *world_with_disks_saved(void)
{
	struct world *w = world_new(&none, &none);

	world_add_disks(w);
	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	loop();
	agent_quiet(w, &none);
	CU_ASSERT(!w->frozen[0] && !w->frozen[1]);
	qemu_saved(w, 0);
	CU_ASSERT(w->frozen[0] && w->frozen[1] && w->arms == 1);
	return w;
}

/* It goes on when memory and both disks are frozen, whoever is last. */
static void test_disks(void)
{
	struct world *w = world_with_disks_saved();

	disk_answers(w, 1, 0);
	memtap_armed(w, 0);
	CU_ASSERT(!w->conts && !w->shared);
	disk_answers(w, 0, 0);
	CU_ASSERT(w->conts == 1 && w->shared == 2 && !w->tidied);
	qemu_continued(w);
	CU_ASSERT(over(w, "ok 0 3") && w->tidied == 2);
	CU_ASSERT(w->started && w->started->disk_count == 2 && w->started->disk_ms >= 0);
	world_free(w);
}

static void test_disk_cannot_freeze(void)
{
	struct world *w = world_with_disks_saved();

	disk_answers(w, 0, -ENOSPC);
	memtap_armed(w, 0);
	CU_ASSERT(!w->conts);
	disk_answers(w, 1, 0);
	CU_ASSERT(w->conts == 1 && !w->shared);
	qemu_continued(w);
	CU_ASSERT(over(w, "a disk could not be frozen") && !w->started);
	world_free(w);
}

static void test_checkpoint(void)
{
	struct world *w = world_new(&window, &none);

	freeze_begin(&w->guest, "1-0-x", NULL);
	loop();
	agent_quiet(w, &window);
	module_holds(w);
	qemu_saved(w, 0);
	memtap_armed(w, 0);
	CU_ASSERT(letter_says(w, 0));
	qemu_continued(w);
	CU_ASSERT(over(w, "ok 1 0 0") && w->frames == 0);
	CU_ASSERT_PTR_NOT_NULL_FATAL(LIST_FIRST(&w->guest.checkpoints));
	CU_ASSERT_FALSE(instant_fits(LIST_FIRST(&w->guest.checkpoints)->instant, &w->ticket));
	world_free(w);
}

/* The module came, went or moved since the ticket was granted: refused, and released as it waits. */
static void test_other_module(void)
{
	struct agent_window moved = { .gfn = 500, .pages = 2 };
	struct world *w = world_new(&window, &moved);

	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	loop();
	agent_quiet(w, &window);
	module_holds(w);
	bell(w);
	qemu_saved(w, 0);
	CU_ASSERT(w->arms == 0 && letter_says(w, 0));
	qemu_continued(w);
	CU_ASSERT(over(w, "loaded or unloaded since the ticket was granted"));
	CU_ASSERT(strstr(w->answer, "error 11 ") && w->frames == 0 && !w->started);
	world_free(w);

	w = world_new(&none, &window);
	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	loop();
	agent_quiet(w, &none);
	CU_ASSERT(over(w, "loaded or unloaded") && w->frames == 1 && !w->saves);
	world_free(w);
}

static void test_agent_cannot_hold(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &none);
	CU_ASSERT(over(w, "could not hold it") && strstr(w->answer, "error 11 "));
	CU_ASSERT(w->frames == 1 && w->saves == 0);
	world_free(w);
}

static void test_window_outside(void)
{
	struct agent_window outside = { .gfn = RAM_BYTES / SFK_PAGE_BYTES - 1, .pages = 2 };
	struct world *w = world_asked();

	agent_quiet(w, &outside);
	CU_ASSERT(over(w, "not in its memory") && w->frames == 1 && w->saves == 0);
	world_free(w);
}

static void test_cannot_save(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	module_holds(w);
	bell(w);
	qemu_saved(w, -EIO);
	CU_ASSERT(over(w, "could not be saved: no reason"));
	CU_ASSERT(letter_says(w, 0) && w->frames == 0 && w->arms == 0);
	world_free(w);

	w = world_asked();
	agent_quiet(w, &window);
	qemu_saved(w, -EIO); /* before it is held, if it ever is */
	CU_ASSERT(over(w, "could not be saved") && no_letter(w) && w->frames == 1);
	world_free(w);
}

static void test_cannot_arm(void)
{
	struct world *w = world_asked();

	agent_quiet(w, &window);
	module_holds(w);
	qemu_saved(w, 0);
	memtap_armed(w, -EPIPE);
	CU_ASSERT(letter_says(w, 0));
	qemu_continued(w);
	CU_ASSERT(over(w, "could not be frozen") && w->frames == 0 && !w->started);
	world_free(w);
}

/* An agent that comes anew has been told who it is: no frame of an operation it knows nothing of. */
static void test_agent_lost(void)
{
	struct world *w = world_asked();

	freeze_agent_lost(&w->guest);
	CU_ASSERT(over(w, "ended and was started again") && w->frames == 0 && w->saves == 0);
	world_free(w);

	w = world_asked();
	agent_quiet(w, &window);
	freeze_agent_lost(&w->guest);
	qemu_saved(w, 0);
	qemu_continued(w);
	CU_ASSERT(over(w, "ended and was started again") && w->frames == 0 && w->saves == 1);
	world_free(w);

	w = world_asked();
	agent_quiet(w, &window);
	qemu_saved(w, 0);
	qemu_continued(w);
	freeze_agent_lost(&w->guest);
	CU_ASSERT(over(w, "ended and was started again") && w->frames == 0 && no_letter(w));
	world_free(w);
}

static void test_rings_for_nothing(void)
{
	struct world *w = world_new(&window, &window);

	for (int i = 0; i < 1000; i++)
		bell(w);
	CU_ASSERT_PTR_NULL(w->guest.freeze);
	module_holds(w);
	bell(w);
	CU_ASSERT(!w->saves && no_letter(w));
	freeze_begin(&w->guest, "1-0-x", &w->ticket);
	bell(w);
	loop();
	bell(w);
	CU_ASSERT(!w->saves && w->guest.freeze);
	world_free(w);
}

static void run_until_over(struct world **worlds, unsigned count)
{
	uint64_t end_ns = io_now_ns() + LIMIT_MS * 1000000ull;

	for (unsigned i = 0; i < count && io_now_ns() < end_ns;) {
		if (worlds[i]->guest.freeze)
			event_base_loop(base, EVLOOP_ONCE);
		else
			i++;
	}
}

/* Those who never come, all at once because each has its five seconds. */
static void test_too_long(void)
{
	struct world *quiet = world_asked(), *hold = world_asked(), *given_up = world_asked(),
		     *lies = world_asked();
	struct world *all[] = { quiet, hold, given_up, lies };
	struct sfk_window lie = module_head(lies);

	/* the agent never gets quiet */
	/* the module never holds */
	agent_quiet(hold, &window);
	qemu_saved(hold, 0);
	qemu_continued(hold);
	/* the module held, and gave up before the VM was stopped */
	agent_quiet(given_up, &window);
	module_holds(given_up);
	bell(given_up);
	module_goes_on(given_up);
	qemu_saved(given_up, 0);
	qemu_continued(given_up);
	CU_ASSERT_EQUAL(given_up->saves, 2);
	qemu_saved(given_up, 0);
	qemu_continued(given_up);
	CU_ASSERT(over(given_up, "does not hold it") && given_up->frames == 1);
	/* what rings is not what holds */
	agent_quiet(lies, &window);
	lie.pages = SFK_MAX_WINDOW_PAGES;
	module_write(lies, &lie);
	bell(lies);
	qemu_saved(lies, 0);
	qemu_continued(lies);
	for (int i = 0; i < 1000; i++)
		bell(lies);
	run_until_over(all, ARRAY_SIZE(all));
	CU_ASSERT(over(quiet, "did not get quiet within 5 s") && quiet->frames == 1);
	CU_ASSERT(over(hold, "module did not hold it within 5 s") && hold->frames == 1);
	CU_ASSERT(over(lies, "module did not hold it within 5 s") && lies->frames == 1);
	for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
		CU_ASSERT(no_letter(all[i]) && !all[i]->arms && !all[i]->started);
		world_free(all[i]);
	}
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "a guest is held, saved, and let go by a letter", test_held },
	{ "the bell overtakes the agent", test_bell_first },
	{ "a bell that is not heard in time", test_bell_never_heard },
	{ "saved before it was held", test_saved_too_early },
	{ "it rings while it is stopped", test_rung_while_nobody_listened },
	{ "a guest without the module", test_no_module },
	{ "a checkpoint", test_checkpoint },
	{ "a guest with two disks", test_disks },
	{ "a disk that cannot be frozen", test_disk_cannot_freeze },
	{ "another module than the ticket's", test_other_module },
	{ "an agent that cannot hold", test_agent_cannot_hold },
	{ "a window that is no memory", test_window_outside },
	{ "QEMU cannot save", test_cannot_save },
	{ "sf-memtap cannot arm", test_cannot_arm },
	{ "the agent dies", test_agent_lost },
	{ "a guest that rings for nothing", test_rings_for_nothing },
	{ "those who never come, and those who lie", test_too_long },
};

int main(void)
{
	CU_pSuite suite;
	unsigned failed;

	log_init("test-freeze", LOG_LVL_ERR);
	base = the_daemon.base = event_base_new();
	if (CU_initialize_registry() != CUE_SUCCESS)
		return 99;
	suite = CU_add_suite("freeze", NULL, NULL);
	for (unsigned i = 0; i < ARRAY_SIZE(tests); i++)
		CU_add_test(suite, tests[i].name, tests[i].run);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	failed = CU_get_number_of_failures();
	CU_cleanup_registry();
	event_base_free(base);
	return failed ? 1 : 0;
}
