/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest with the kernel module under a plain QEMU, with the test as its host. */
#define _GNU_SOURCE
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "frames.h"

#define CMDLINE                                                                              \
	"console=ttyS0 panic=-1 loglevel=5 mitigations=off tsc=reliable no_timer_check "      \
	"cryptomgr.notests transparent_hugepage=madvise rcupdate.rcu_cpu_stall_suppress=1 "
#define QUICK "init_on_alloc=0 nowatchdog "	/* where nothing is asked for */
#define DEFAULT_RAM_MIB 256u
#define ROOM (4u << 20)	/* bytes of a command's output */

static char output[ROOM];

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	CU_FAIL_FATAL("no answer as expected");
	exit(1);
}

/* ---- QEMU ---- */

struct wiring {	/* QEMU's ends */
	int ram, initrd, qmp, port, bell, wire;
	const char *console;
};

static const char *needed(const char *name)
{
	const char *value = getenv(name);

	if (value && *value)
		return value;
	fprintf(stderr, "%s is not set\n", name);
	exit(77);
}

/* The guest's files with the tests' own behind, which replace some. */
static int join_initrd(void)
{
	const char *paths[] = { NULL, "extra.cpio" };
	_cleanup_free_ char *image = NULL;
	int fd = memfd_create("initrd", 0);

	if (asprintf(&image, "%s/initrd.img", needed("SF_GUEST")) < 0)
		abort();
	paths[0] = image;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_free_ char *data = NULL;
		size_t len;

		if (io_read_file(paths[i], SIZE_MAX / 2, &data, &len)) {
			fprintf(stderr, "%s is missing\n", paths[i]);
			exit(77);
		}
		must(!io_write_full(fd, data, len), "initrd");
		/* an archive begins at four bytes */
		must(!io_write_full(fd, "\0\0\0", -len % 4), "initrd");
	}
	return fd;
}

struct arguments {
	char *list[96];
	int count;
};

static void __attribute__((format(printf, 2, 3))) arg(struct arguments *a, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	must(a->count + 1 < (int)ARRAY_SIZE(a->list) &&
	     vasprintf(&a->list[a->count++], format, args) >= 0, "argument");
	va_end(args);
}

static void add_machine(struct arguments *a, const struct vm_config *c, const struct wiring *w,
			unsigned ram_mib)
{
	arg(a, "qemu-system-x86_64");
	arg(a, "-machine");
	arg(a, "q35,memory-backend=ram,vmport=off,smbus=off,sata=off,usb=off,graphics=off,smm=off,"
	       "i8042=off");
	arg(a, "-object");
	arg(a, "memory-backend-file,id=ram,size=%uM,mem-path=/proc/self/fd/%d,share=on", ram_mib,
	    w->ram);
	arg(a, "-accel");
	arg(a, "tcg,thread=multi,tb-size=128");
	arg(a, "-cpu");
	arg(a, "Nehalem");
	arg(a, "-smp");
	arg(a, c->one_cpu ? "1" : "2");
	arg(a, "-m");
	arg(a, "%uM", ram_mib);
	arg(a, "-nodefaults");
	arg(a, "-no-user-config");
	arg(a, "-no-reboot");
	arg(a, "-display");
	arg(a, "none");
	arg(a, "-kernel");
	arg(a, "%s/vmlinuz", needed("SF_GUEST"));
	arg(a, "-initrd");
	arg(a, "/proc/self/fd/%d", w->initrd);
	arg(a, "-append");
	arg(a, CMDLINE "%s", c->cmdline ? c->cmdline : QUICK);
	if (!c->save)
		return;
	arg(a, "-incoming");
	arg(a, "exec:cat '%s'", c->save);
}

static void add_channels(struct arguments *a, const struct vm_config *c, const struct wiring *w)
{
	arg(a, "-chardev");
	arg(a, "socket,id=qmp,fd=%d", w->qmp);
	arg(a, "-mon");
	arg(a, "chardev=qmp,mode=control");
	arg(a, "-serial");
	arg(a, "file:%s", w->console);
	arg(a, "-device");
	arg(a, "virtio-serial-pci,max_ports=2,disable-legacy=on,addr=0x2");
	arg(a, "-chardev");
	arg(a, "socket,id=port,fd=%d", w->port);
	arg(a, "-device");
	arg(a, "virtserialport,nr=1,chardev=port,name=test");
	if (!c->no_doorbell) {
		arg(a, "-chardev");
		arg(a, "socket,id=bell,fd=%d", w->bell);
		arg(a, "-device");
		arg(a, "isa-debugcon,iobase=%#x,readback=%#x,chardev=bell", SFK_DOORBELL_PORT,
		    SFK_DOORBELL_ID);
	}
	if (!c->no_generation) {
		arg(a, "-device");
		arg(a, "vmgenid,guid=auto");
	}
}

/* A hub with the guest's NIC, the test, and an outside that answers. */
static void add_network(struct arguments *a, const struct vm_config *c, const struct wiring *w)
{
	arg(a, "-netdev");
	arg(a, "socket,id=wire,fd=%d", w->wire);
	arg(a, "-netdev");
	arg(a, "hubport,id=hub0,hubid=0,netdev=wire");
	arg(a, "-netdev");
	arg(a, "hubport,id=hub1,hubid=0");
	arg(a, "-device");
	arg(a, "virtio-net-pci,netdev=hub1,mac=02:00:00:00:00:01,disable-legacy=on,romfile=,"
	       "guest_announce=off,addr=0x4%s", c->nic);
	if (c->no_outside)
		return;
	arg(a, "-netdev");
	arg(a, "user,id=outside,ipv6=off");
	arg(a, "-netdev");
	arg(a, "hubport,id=hub2,hubid=0,netdev=outside");
}

static void run_qemu(const struct vm_config *c, const struct wiring *w, unsigned ram_mib)
{
	struct arguments a = { .count = 0 };
	const int inherited[] = { w->ram, w->initrd, w->qmp, w->port, w->bell, w->wire };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < ARRAY_SIZE(inherited); i++)
		io_set_inherit(inherited[i], true);
	add_machine(&a, c, w, ram_mib);
	add_channels(&a, c, w);
	if (c->nic)
		add_network(&a, c, w);
	execvp(a.list[0], a.list);
	perror(a.list[0]);
	_exit(77);
}

static void pair(int *ours, int *theirs)
{
	int fds[2];

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), "socketpair");
	*ours = fds[0];
	*theirs = fds[1];
}

/* ---- QMP ---- */

/* Reads until a line begins with one of two words. */
static bool read_until(int fd, char *buf, size_t room, const char *word, const char *other)
{
	size_t at = 0;

	while (at + 1 < room) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got = poll(&p, 1, VM_WAIT_MS) > 0 ? read(fd, buf + at, 1) : -1;

		if (got <= 0)
			return false;
		if (buf[at++] != '\n')
			continue;
		buf[at] = 0;
		if (strstr(buf, word) || (other && strstr(buf, other)))
			return true;
		at = 0;
	}
	return false;
}

const char *vm_qmp(struct vm *vm, const char *command)
{
	static char answer[65536];

	must(!io_write_full(vm->qmp, command, strlen(command)), "QMP");
	must(read_until(vm->qmp, answer, sizeof(answer), "\"return\"", "\"error\""), command);
	return answer;
}

void vm_save(struct vm *vm, const char *path)
{
	_cleanup_free_ char *command = NULL;

	must(asprintf(&command, "{\"execute\":\"migrate\",\"arguments\":"
				"{\"uri\":\"exec:cat > %s\"}}", path) > 0, "memory");
	vm_qmp(vm, "{\"execute\":\"stop\"}");
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(vm_qmp(vm, command), "return"));
	for (;;) {
		const char *state = vm_qmp(vm, "{\"execute\":\"query-migrate\"}");

		CU_ASSERT_PTR_NULL_FATAL(strstr(state, "failed"));
		if (strstr(state, "completed"))
			return;
		poll(NULL, 0, 20);
	}
}

/* ---- starting and stopping ---- */

static void show_console(const struct vm *vm)
{
	_cleanup_free_ char *console = NULL;
	size_t len;

	if (!io_read_file(vm->console, ROOM, &console, &len))
		fprintf(stderr, "console: %s\n", console);
}

static const char *read_output(struct vm *vm, int *status)
{
	size_t at = 0;

	while (at + 1 < ROOM) {
		struct pollfd p = { .fd = vm->port, .events = POLLIN };
		ssize_t got = poll(&p, 1, VM_WAIT_MS) > 0 ?
				      read(vm->port, output + at, ROOM - 1 - at) : -1;
		char *end;

		if (got <= 0)
			break;
		at += (size_t)got;
		output[at] = 0;
		end = memrchr(output, '=', at);
		if (output[at - 1] == '\n' && end && end > output && end[-1] == '=' &&
		    sscanf(end + 1, " %d", status) == 1) {
			end[-1] = 0;
			return output;
		}
	}
	fprintf(stderr, "no end after: %s\n", output);
	show_console(vm);
	must(false, "the guest does not answer");
	return NULL;
}

/* Ends the program if that is why QEMU ended. */
static bool no_qemu(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		exit(77);
	return false;
}

static void need_module(struct vm *vm)
{
	int status;

	vm_try(vm, &status, "[ -e /usr/lib/modules/snowflock.ko ]");
	if (!status)
		return;
	fprintf(stderr, "the guest's image has no kernel module\n");
	vm_kill(vm);
	exit(77);
}

struct vm *vm_start(const struct vm_config *config)
{
	unsigned ram_mib = config->ram_mib ? config->ram_mib : DEFAULT_RAM_MIB;
	struct vm *vm = calloc(1, sizeof(*vm));
	struct wiring w = { .initrd = join_initrd() };
	static char greeting[4096];
	int status;

	must(vm, "memory");
	vm->ram_bytes = (size_t)ram_mib << 20;
	vm->ram_fd = w.ram = memfd_create("ram", MFD_CLOEXEC);
	must(!ftruncate(w.ram, (off_t)vm->ram_bytes), "ram");
	vm->ram = mmap(NULL, vm->ram_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, w.ram, 0);
	must(vm->ram != MAP_FAILED, "ram");
	strcpy(vm->console, "/tmp/sf-kmod-XXXXXX");
	close(mkstemp(vm->console));
	w.console = vm->console;
	pair(&vm->qmp, &w.qmp);
	pair(&vm->port, &w.port);
	pair(&vm->bell, &w.bell);
	pair(&vm->wire, &w.wire);
	vm->pid = fork();
	if (!vm->pid)
		run_qemu(config, &w, ram_mib);
	close(w.initrd);
	close(w.qmp);
	close(w.port);
	close(w.bell);
	close(w.wire);
	if (config->nic)
		vm->frames = frames_start(vm->wire);
	if (!read_until(vm->qmp, greeting, sizeof(greeting), "\"QMP\"", NULL))
		must(waitpid(vm->pid, &status, 0) < 0 || no_qemu(status), "QEMU");
	vm_qmp(vm, "{\"execute\":\"qmp_capabilities\"}");
	if (!config->save) {
		read_output(vm, &status);
		need_module(vm);
	}
	while (config->save && !strstr(vm_qmp(vm, "{\"execute\":\"query-status\"}"), "paused"))
		poll(NULL, 0, 20);
	return vm;
}

void vm_kill(struct vm *vm)
{
	kill(vm->pid, SIGKILL);
	waitpid(vm->pid, NULL, 0);
	if (vm->frames)
		frames_stop(vm->frames);
	close(vm->qmp);
	close(vm->port);
	close(vm->bell);
	close(vm->wire);
	munmap(vm->ram, vm->ram_bytes);
	close(vm->ram_fd);
	unlink(vm->console);
	free(vm);
}

/* Return: false, having said why, if there is a complaint of the kernel's in the text. */
static bool is_clean(const char *text, const char *where)
{
	static const char *const complaints[] = {
		"WARNING:", "BUG:", "BUG ", "Oops", "INFO: ", "Call Trace", "general protection",
		"scheduling while atomic", "Bad page", "unable to handle", "stack-protector",
		"corruption", "page allocation failure", "Out of memory",
	};

	for (size_t i = 0; i < ARRAY_SIZE(complaints); i++) {
		const char *at = strstr(text, complaints[i]);

		if (!at)
			continue;
		fprintf(stderr, "%s:\n%.3000s\n", where, at);
		return false;
	}
	return true;
}

void vm_stop(struct vm *vm)
{
	_cleanup_free_ char *console = NULL;
	size_t len;

	CU_ASSERT_TRUE(is_clean(vm_run(vm, "dmesg"), "dmesg"));
	CU_ASSERT_EQUAL(io_read_file(vm->console, ROOM, &console, &len), 0);
	CU_ASSERT_TRUE(console && is_clean(console, "console"));
	vm_kill(vm);
}

/* ---- commands ---- */

static void begin(struct vm *vm, const char *format, va_list args)
{
	_cleanup_free_ char *line = NULL;

	must(vasprintf(&line, format, args) >= 0, "memory");
	must(!io_write_full(vm->port, line, strlen(line)) && !io_write_full(vm->port, "\n", 1),
	     "command");
}

void vm_begin(struct vm *vm, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	begin(vm, format, args);
	va_end(args);
}

const char *vm_end(struct vm *vm, int *status)
{
	return read_output(vm, status);
}

const char *vm_run(struct vm *vm, const char *format, ...)
{
	va_list args;
	int status;

	va_start(args, format);
	begin(vm, format, args);
	va_end(args);
	read_output(vm, &status);
	if (status)
		fprintf(stderr, "%s: status %d: %s\n", format, status, output);
	CU_ASSERT_EQUAL(status, 0);
	return output;
}

const char *vm_try(struct vm *vm, int *status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	begin(vm, format, args);
	va_end(args);
	return read_output(vm, status);
}

void vm_spawn(struct vm *vm, const char *format, ...)
{
	_cleanup_free_ char *command = NULL;
	va_list args;
	int status;

	va_start(args, format);
	must(vasprintf(&command, format, args) >= 0, "memory");
	va_end(args);
	vm_try(vm, &status, "rm -f /tmp/ready; %s >/tmp/out.$$ 2>&1 & until [ -e /tmp/ready ]; do "
	       "kill -0 $! 2>/dev/null || { cat /tmp/out.$$; exit 1; }; done; "
	       "mv /tmp/out.$$ /tmp/out",
	       command);
	if (status)
		fprintf(stderr, "%s: %s\n", command, output);
	CU_ASSERT_EQUAL_FATAL(status, 0);
}

long long vm_number(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = text; (at = strstr(at, name)); at += len) {
		if (at[len] == '=' && (at == text || at[-1] == '\n' || at[-1] == ' '))
			return strtoll(at + len + 1, NULL, 0);
	}
	fprintf(stderr, "no %s in: %s\n", name, text);
	CU_FAIL("a number is missing");
	return -1;
}

/* ---- the host's part ---- */

struct sfk_window *vm_window(struct vm *vm)
{
	int status;
	const char *where = vm_try(vm, &status, "t where");
	uint64_t at;

	if (status)
		return NULL;
	CU_ASSERT_EQUAL_FATAL(vm_number(where, "version"), SFK_VERSION);
	at = sfk_file_page((uint64_t)vm_number(where, "gfn")) * SFK_PAGE_BYTES;
	CU_ASSERT_TRUE_FATAL(at + (uint64_t)vm_number(where, "pages") * SFK_PAGE_BYTES <=
			     vm->ram_bytes);
	return (struct sfk_window *)(vm->ram + at);
}

const uint64_t *vm_bitmap(const struct sfk_window *window)
{
	return (const uint64_t *)((const uint8_t *)window + SFK_PAGE_BYTES);
}

bool vm_hears(struct vm *vm, int ms)
{
	struct pollfd p = { .fd = vm->bell, .events = POLLIN };
	char byte;

	return poll(&p, 1, ms) > 0 && read(vm->bell, &byte, 1) == 1;
}

struct sfk_window *vm_hold(struct vm *vm, uint64_t op, const char *nic)
{
	struct sfk_window *window = vm->window = vm_window(vm);

	CU_ASSERT_PTR_NOT_NULL_FATAL(window);
	vm_begin(vm, "t hold %llu %s", (unsigned long long)op, nic);
	if (!vm_hears(vm, VM_WAIT_MS)) {
		int status = -1;

		fprintf(stderr, "no bell: %s\n", vm_end(vm, &status));
		CU_FAIL_FATAL("the bell is not heard");
	}
	vm_qmp(vm, "{\"execute\":\"stop\"}");
	CU_ASSERT_EQUAL(window->magic, SFK_MAGIC);
	CU_ASSERT_EQUAL(window->version, SFK_VERSION);
	CU_ASSERT_EQUAL(window->state, SFK_HELD);
	CU_ASSERT_EQUAL(window->held_op, op);
	if (vm->frames)
		frames_settle(vm->frames, 50);
	return window;
}

void vm_answer(struct vm *vm, const struct sfk_letter *letter)
{
	struct sfk_window *window = vm->window;

	window->letter = *letter;
	window->letter.turn = 0;
	__atomic_store_n(&window->letter.turn, window->held_op, __ATOMIC_RELEASE);
	vm_qmp(vm, "{\"execute\":\"cont\"}");
}
