/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real VM from its boot to its clones: saved often and quickly, cloned, killed, refused.
 *
 * Nobody serves pages here: the RAM's userfaultfds are accepted and left alone, so it is ordinary
 * memory, and clones map the parent's RAM privately while the parent stays paused.
 *
 * Needs root, QEMU and a kernel: $SF_TEST_KERNEL with the modules in $SF_TEST_MODULES, or else the
 * guest image. Prints the times it measured.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "common/log.h"
#include "proto/agent-port.h"
#include "proto/kmod.h"
#include "tests/vmm/initrd.h"
#include "tests/vmm/rig.h"

#define SKIP 77
#define MIB (1ull << 20)
#define SMALL_BYTES (512 * MIB)
#define LARGE_BYTES (2560 * MIB)	/* QEMU by itself would have it all below 4 GiB */
#define CLONES 4
#define SAVES 20
#define BOOT_LIMIT_MS 120000
#define DETAIL_BYTES 600	/* of a console's text, in the message of a failure */

#define WINDOW_OFFSET (16 * MIB)
#define WINDOW_BYTES 8192u
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

/* Counts on both CPUs; prints what comes in at the agent's port, and does some of it. */
static const char script[] =
	"#!/vmm-test/busybox sh\n"
	"b=/vmm-test/busybox\n"
	"$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev\n"
	"for m in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci \\\n"
	"		failover net_failover virtio_net virtio_console virtio-rng; do\n"
	"	for f in /vmm-test/$m.ko $($b find /lib /usr -name $m.ko 2>/dev/null); do\n"
	"		[ -e $f ] && $b insmod $f\n"
	"	done\n"
	"done\n"
	"echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6\n"
	"$b ip addr add 10.9.8.7/24 dev eth0; $b ip link set eth0 up\n"
	"for p in /sys/class/virtio-ports/*; do echo \"port $($b cat $p/name)\"; done\n"
	"for p in /sys/class/virtio-ports/*; do\n"
	"	[ $($b cat $p/name) = " AGENT_PORT_NAME " ] && agent=/dev/${p##*/}\n"
	"done\n"
	"while read line; do\n"
	"	echo \"heard $line\"\n"
	"	[ \"$line\" = call ] && $b arping -c 1 -I eth0 10.9.8.1 >/dev/null\n"
	"	[ \"$line\" = off ] && $b poweroff -f\n"
	"	port=\"bs=1 count=1 seek=$((" TEXT(SFK_DOORBELL_PORT) "))\"\n"
	"	[ \"$line\" = ring ] && $b dd if=/dev/zero of=/dev/port $port 2>/dev/null\n"
	"	[ \"$line\" = id ] && echo \"bell $($b dd if=/dev/port ${port/seek/skip} \\\n"
	"		2>/dev/null | $b hexdump -e '\"%d\"')\"\n"
	"	[ \"$line\" = forks ] && echo \"forks $($b dmesg | \\\n"
	"		$b grep -c 'virtual machine fork').\"\n"
	"done <$agent &\n"
	"echo \"cpus $($b nproc)\"\n"
	"$b grep 'System RAM' /proc/iomem\n"
	"last=$(($($b nproc) - 1))\n"
	"$b taskset -p $((1 << last)) $$ >/dev/null\n"
	"i=0\n"
	"while :; do i=$((i + 1)); echo \"tick $i\"; $b usleep 50000; done\n";

static int failures;

static bool check(bool ok, const char *what, const char *detail)
{
	size_t len = strlen(detail);

	if (!ok) {
		failures++;
		printf("FAIL: %s%s%s\n", what, len ? ": …" : "",
		       len > DETAIL_BYTES ? detail + len - DETAIL_BYTES : detail);
	}
	return ok;
}

static double ms_between(uint64_t from_ns, uint64_t to_ns)
{
	return (double)(int64_t)(to_ns - from_ns) / 1e6;
}

/* Processor time of a process so far, its threads included. */
static double cpu_ms(pid_t pid)
{
	struct timespec t = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
		return 0;
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static long last_tick(const char *text)
{
	long tick = 0;

	for (const char *at = text; (at = strstr(at, "tick ")); at++) {
		char *end;
		long number = strtol(at + 5, &end, 10);

		if (*end == '\r' || *end == '\n')
			tick = number;
	}
	return tick;
}

/* Every tick follows the one before, over what the parent printed and then the clone. */
static bool ticks_are_consecutive(const char *before, const char *after)
{
	_cleanup_free_ char *all = NULL;
	long expected = 1;

	if (asprintf(&all, "%s%s", before, after) < 0)
		return false;
	for (const char *at = all; (at = strstr(at, "tick ")); at++) {
		char *end;
		long number = strtol(at + 5, &end, 10);

		if (*end != '\r' && *end != '\n')
			break;
		if (number != expected++)
			return false;
	}
	return expected > 1;
}

static bool status_says(pid_t pid, const char *line)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return !io_read_file(path, 65536, &text, &len) && strstr(text, line);
}

static void qemu_is_confined(struct machine *m)
{
	static const char *const spaces[] = { "net", "mnt", "ipc", "uts" };
	char theirs[64], ours[64], a[64], b[64];
	pid_t pid = vmm_pid(m->vmm);

	check(status_says(pid, "Uid:\t65534\t65534\t65534\t65534"), "QEMU is nobody", "");
	check(status_says(pid, "Groups:\t \n") || status_says(pid, "Groups:\t\n"),
	      "QEMU has no other groups", "");
	check(status_says(pid, "CapEff:\t0000000000000000"), "QEMU has no capabilities", "");
	check(status_says(pid, "NoNewPrivs:\t1"), "QEMU gains no privileges", "");
	check(status_says(pid, "Seccomp:\t2"), "QEMU has a seccomp filter", "");
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		ssize_t len;

		snprintf(theirs, sizeof(theirs), "/proc/%d/ns/%s", pid, spaces[i]);
		snprintf(ours, sizeof(ours), "/proc/self/ns/%s", spaces[i]);
		len = readlink(theirs, a, sizeof(a) - 1);
		a[len > 0 ? len : 0] = 0;
		len = readlink(ours, b, sizeof(b) - 1);
		b[len > 0 ? len : 0] = 0;
		check(a[0] && b[0] && strcmp(a, b), "QEMU has its own namespace", spaces[i]);
	}
}

static void saves_take_the_same_time(struct machine *m, int fd, const char *size)
{
	double pause[SAVES], stop = 0, save = 0, cont = 0, most = 0, sum = 0;
	struct stat st;

	for (int i = 0; i < SAVES; i++) {
		const struct vmm_times *t = vmm_times(m->vmm);

		if (!check(!machine_save(m, fd), "save", m->why) ||
		    !check(vmm_state(m->vmm) == VMM_PAUSED, "paused after a save", "") ||
		    !check(!machine_cont(m), "continue", m->why))
			return;
		pause[i] = ms_between(t->stopped_ns, t->running_ns);
		stop += ms_between(t->stop_ns, t->stopped_ns) / SAVES;
		save += ms_between(t->stopped_ns, t->saved_ns) / SAVES;
		cont += ms_between(t->saved_ns, t->running_ns) / SAVES;
		most = pause[i] > most ? pause[i] : most;
		sum += pause[i];
		rig_run_ms(m->base, 20);
	}
	fstat(fd, &st);
	printf("%s: %d saves: to stopped %.2f ms, to saved %.2f ms, to running %.2f ms\n",
	       size, SAVES, stop, save, cont);
	printf("%s: pause mean %.2f ms, worst %.2f, first %.2f, last %.2f; descriptor %lld bytes\n",
	       size, sum / SAVES, most, pause[0], pause[SAVES - 1], (long long)st.st_size);
	check(st.st_size > 0 && st.st_size < (off_t)MIB, "a descriptor is less than 1 MiB", "");
	/* Generous, for busy machines; what it must find is growth and QEMU's 100 ms waits. */
	check(sum / SAVES < 50, "the pause is short", "");
	check(machine_await_text(m, "tick", 5000), "it runs after saves", "");
}

/*
 * A clone wakes up with its parent's address, so it must not send anything by itself: not QEMU,
 * which likes to announce where a machine has moved, nor the guest because QEMU asked it to.
 */
static void clones_are_quiet_until_they_speak(struct machine *clones)
{
	int frames = 0;

	rig_run_ms(clones[0].base, 300);
	for (int i = 0; i < CLONES; i++)
		check(!tap_frames(&clones[i].tap), "a clone sends nothing by itself", "");
	dprintf(clones[0].agent, "call\n");
	for (int i = 0; i < 500 && !frames; i++) {
		rig_run_ms(clones[0].base, 20);
		frames = tap_frames(&clones[0].tap);
	}
	check(frames, "a clone's network works", clones[0].text);
}

static void the_guest_hears_how_often_it_was_cloned(struct machine *m, unsigned times)
{
	char word[16];

	snprintf(word, sizeof(word), "forks %u.", times);
	for (int i = 0; i < 100 && !strstr(m->text, word); i++) {
		dprintf(m->agent, "forks\n");
		machine_await_text(m, word, 200);
	}
	check(strstr(m->text, word), "the guest's kernel knows that it is a clone, or not",
	      m->text);
}

static void the_bell_rings(struct machine *m)
{
	m->rung = false;
	dprintf(m->agent, "id\nring\n");
	check(machine_await(m, &m->rung, 10000), "the guest rings the bell", m->text);
	check(machine_await_text(m, "bell " TEXT(83), 10000), "the bell has its mark", m->text);
	_Static_assert(SFK_DOORBELL_ID == 83, "as in the text");
}

/* proto/kmod.h counts on it: RAM up to 2 GiB, the rest from 4 GiB on. */
static void ram_lies_where_it_should(struct machine *m, uint64_t bytes)
{
	char high[64];

	snprintf(high, sizeof(high), "100000000-%llx : System RAM",
		 (unsigned long long)(bytes + SFK_LOW_GFNS * 4096 - 1));
	check(!strstr(m->text, "100000000-") == (bytes <= SFK_LOW_GFNS * 4096), "RAM above 4 GiB",
	      m->text);
	check(bytes <= SFK_LOW_GFNS * 4096 || strstr(m->text, high), "all of it", m->text);
}

/* What a process has in its memory at `at`. */
static bool memory_is(pid_t pid, uint64_t at, const void *bytes, size_t len)
{
	_cleanup_free_ char *seen = malloc(len);
	char path[32];
	_cleanup_fd_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return pread(fd, seen, len, (off_t)at) == (ssize_t)len && !memcmp(seen, bytes, len);
}

static void a_window_lies_over_the_ram(const struct rig *rig)
{
	struct machine *m = calloc(1, sizeof(*m));
	_cleanup_fd_ int ram = rig_memfd(64 * MIB), window = rig_memfd(WINDOW_BYTES + 4096);
	char text[WINDOW_BYTES], next[4096];

	memset(next, 'r', sizeof(next));
	check(pwrite(ram, next, sizeof(next), WINDOW_OFFSET) == sizeof(next) &&
	      pwrite(ram, next, sizeof(next), WINDOW_OFFSET - 4096) == sizeof(next) &&
	      pwrite(ram, next, sizeof(next), WINDOW_OFFSET + WINDOW_BYTES) == sizeof(next),
	      "RAM", "");
	m->window_fd = window;
	m->window_offset = WINDOW_OFFSET;
	m->window_bytes = WINDOW_BYTES;
	check(!machine_start(m, rig, "window", ram, 64 * MIB, 1, true), "a start", m->why);
	check(machine_await(m, &m->ready, 10000), "a clone with a window waits", m->why);
	memset(text, 'w', sizeof(text));
	check(pwrite(window, text, sizeof(text), 0) == sizeof(text), "the window", "");
	check(memory_is(vmm_pid(m->vmm), m->ram_base + WINDOW_OFFSET, text, sizeof(text)),
	      "the window is seen where it should be, and as it is written", "");
	check(memory_is(vmm_pid(m->vmm), m->ram_base + WINDOW_OFFSET - 4096, next, sizeof(next)),
	      "RAM before it", "");
	check(memory_is(vmm_pid(m->vmm), m->ram_base + WINDOW_OFFSET + WINDOW_BYTES, next,
			sizeof(next)), "RAM behind it", "");
	machine_stop(m);
	free(m);
}

static void bad_windows_are_refused(const struct rig *rig)
{
	static const struct { uint64_t offset, bytes; bool clone; } bad[] = {
		{ 64 * MIB, 4096, true }, { 64 * MIB - 4096, 8192, true }, { 0, 0, true },
		{ 4096, 4000, true }, { 4000, 4096, true }, { UINT64_MAX - 4095, 8192, true },
		{ 0, 16384, true }, { 0, 4096, false },
	};
	_cleanup_fd_ int ram = rig_memfd(64 * MIB), window = rig_memfd(WINDOW_BYTES);
	struct machine *m = calloc(1, sizeof(*m));

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		m->window_fd = window;
		m->window_offset = bad[i].offset;
		m->window_bytes = bad[i].bytes;
		check(machine_start(m, rig, "bad", ram, 64 * MIB, 1, bad[i].clone) == -EINVAL &&
		      strstr(m->why, "window"), "a window that does not fit", m->why);
		machine_stop(m);
	}
	free(m);
}

/* The shim alone, in front of a program that is none of ours: it ends it, with a sentence. */
static void a_malformed_environment_ends_the_program(const struct rig *rig)
{
	static const char *const bad[] = { "", "3", "3,4", "3,4,x", "3,4,5,", "3,4,5,6", "3,4,5,6,7",
					   "3,4,5,6,7,8x", "3,4,5,-1,0,4096", "3,4,5,6,7,8,9" };
	char line[PATH_MAX + 128];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(line, sizeof(line), "SF_UFFD='%s' LD_PRELOAD='%s' /bin/true 2>&1 | "
			 "grep -q 'uffd shim: .*malformed'", bad[i], rig->shim);
		check(!system(line), "the shim refuses a malformed environment", bad[i]);
	}
}

static void clones_go_on_from_the_same_instant(struct machine *parent, const struct rig *rig,
					       int ram, uint64_t ram_bytes, unsigned cpus)
{
	struct machine *clones = calloc(CLONES, sizeof(*clones));
	_cleanup_fd_ int fd = rig_memfd(0);
	double cpu[CLONES];
	uint64_t started = io_now_ns(), running = 0;
	char name[16];

	for (int i = 0; i < CLONES; i++) {
		snprintf(name, sizeof(name), "clone%d", i + 1);
		check(!machine_start(&clones[i], rig, name, ram, ram_bytes, cpus, true),
		      "a clone starts", clones[i].why);
	}
	for (int i = 0; i < CLONES; i++)
		check(machine_await(&clones[i], &clones[i].ready, 30000), "a clone waits",
		      clones[i].why);
	printf("%d clones waiting after %.0f ms\n", CLONES, ms_between(started, io_now_ns()));
	check(vmm_state(clones[0].vmm) == VMM_WAITING, "a clone's state is WAITING", "");
	check(vmm_save(clones[0].vmm, fd, machine_done, &clones[0]) == -EOPNOTSUPP,
	      "a clone is not saved", "");

	if (!check(!machine_save(parent, fd), "the parent is saved", parent->why))
		return;
	rig_run_ms(parent->base, 20);
	started = io_now_ns();
	for (int i = 0; i < CLONES; i++) {
		cpu[i] = cpu_ms(vmm_pid(clones[i].vmm));
		check(!vmm_load(clones[i].vmm, fd, machine_done, &clones[i]), "load", "");
	}
	for (int i = 0; i < CLONES; i++) {
		check(machine_await(&clones[i], &clones[i].done, 20000), "a clone runs",
		      clones[i].why);
		check(!clones[i].error, "a clone loads", clones[i].why);
		cpu[i] = cpu_ms(vmm_pid(clones[i].vmm)) - cpu[i];
		running = clones[i].done_ns > running ? clones[i].done_ns : running;
	}
	printf("%d clones running %.1f ms after load, each with %.1f ms of CPU\n", CLONES,
	       ms_between(started, running), cpu[0]);
	for (int i = 0; i < CLONES; i++) {
		long from = last_tick(parent->text);
		char word[32];

		snprintf(word, sizeof(word), "tick %ld\r", from + 10);
		check(machine_await_text(&clones[i], word, 20000), "a clone ticks on",
		      clones[i].text);
		check(ticks_are_consecutive(parent->text, clones[i].text),
		      "a clone goes on where the parent stopped", clones[i].text);
		dprintf(clones[i].agent, "you are %d\n", i + 1);
		snprintf(word, sizeof(word), "heard you are %d\r", i + 1);
		check(machine_await_text(&clones[i], word, 5000), "a clone hears its own port",
		      clones[i].text);
		the_guest_hears_how_often_it_was_cloned(&clones[i], 1);
	}
	clones_are_quiet_until_they_speak(clones);
	check(vmm_save(clones[0].vmm, fd, machine_done, &clones[0]) == -EOPNOTSUPP,
	      "a running clone is not saved", "");
	for (int i = 0; i < CLONES; i++)
		machine_stop(&clones[i]);
	free(clones);
	check(!machine_cont(parent), "the parent continues", parent->why);
	the_guest_hears_how_often_it_was_cloned(parent, 0);
}

static void calls_that_do_not_fit_are_refused(struct machine *m, int fd)
{
	check(vmm_cont(m->vmm, machine_done, m) == -EINVAL, "a running VM does not continue", "");
	check(vmm_load(m->vmm, fd, machine_done, m) == -EINVAL, "a running VM does not load", "");
	m->done = false;
	check(!vmm_save(m->vmm, fd, machine_done, m), "a save begins", "");
	check(vmm_save(m->vmm, fd, machine_done, m) == -EBUSY, "one save at a time", "");
	check(machine_await(m, &m->done, 20000) && !m->error, "the first is done", m->why);
	check(vmm_state(m->vmm) == VMM_PAUSED, "and the VM is PAUSED", "");
	check(vmm_save(m->vmm, fd, machine_done, m) == -EINVAL, "a paused VM is not saved", "");
	check(!machine_cont(m), "and continues", m->why);
	check(vmm_state(m->vmm) == VMM_RUNNING, "and is RUNNING", "");
}

static void a_save_that_fails_leaves_the_vm_running(struct machine *m)
{
	_cleanup_fd_ int sealed = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_fd_ int good = rig_memfd(0);
	long before = last_tick(m->text);
	char word[32];

	fcntl(sealed, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE);
	check(machine_save(m, sealed) < 0, "a save into a sealed file fails", "");
	check(strstr(m->why, "QEMU could not"), "and says why", m->why);
	check(vmm_state(m->vmm) == VMM_RUNNING, "and the VM is RUNNING", "");
	snprintf(word, sizeof(word), "tick %ld\r", before + 5);
	check(machine_await_text(m, word, 20000), "and goes on", "");
	check(!machine_save(m, good) && !machine_cont(m), "and can be saved then", m->why);
}

static void a_killed_qemu_is_reported(struct machine *m)
{
	_cleanup_fd_ int fd = rig_memfd(0);

	m->done = false;
	check(!vmm_save(m->vmm, fd, machine_done, m), "a save begins", "");
	kill(vmm_pid(m->vmm), SIGKILL);
	check(machine_await(m, &m->ended, 5000), "the end of a killed QEMU is reported", "");
	check(m->done && m->error == -EPIPE, "its save ended with it", "");
	check(strstr(m->why, "signal 9"), "the sentence has the signal", m->why);
	check(strstr(m->why, "tick "), "the sentence has the last output", m->why);
	check(vmm_state(m->vmm) == VMM_ENDED, "its state is ENDED", "");
	check(vmm_save(m->vmm, fd, machine_done, m) == -EINVAL, "it can not be saved", "");
}

static void a_guest_may_end_its_vm(struct machine *m)
{
	dprintf(m->agent, "off\n");
	check(machine_await(m, &m->ended, 20000), "a guest that powers off ends its VM", "");
	check(strstr(m->why, "the guest ended the VM (guest-shutdown)"), "and says so", m->why);
}

/* In a process of its own: starts a VM, tells its QEMU's pid, and stays. */
static _Noreturn void start_and_stay(struct rig rig, int tell)
{
	struct machine *m = calloc(1, sizeof(*m));
	pid_t pid = 0;

	rig.base = event_base_new();
	if (!machine_start(m, &rig, "orphan", rig_memfd(64 * MIB), 64 * MIB, 1, true) &&
	    machine_await(m, &m->ready, 10000))
		pid = vmm_pid(m->vmm);
	io_write_full(tell, &pid, sizeof(pid));
	pause();
	_exit(0);
}

static void qemu_ends_with_who_started_it(const struct rig *rig)
{
	int told[2], qemu = -1;
	struct pollfd ended = { .events = POLLIN };
	pid_t starter, pid = 0;

	if (!check(!pipe2(told, O_CLOEXEC), "pipe", ""))
		return;
	starter = fork();
	if (!starter)
		start_and_stay(*rig, told[1]);
	close(told[1]);
	io_read_full(told[0], &pid, sizeof(pid));
	close(told[0]);
	if (pid)
		qemu = (int)syscall(SYS_pidfd_open, pid, 0);
	check(qemu >= 0, "another process has a QEMU", "");
	kill(starter, SIGKILL);
	waitpid(starter, NULL, 0);
	ended.fd = qemu;
	check(poll(&ended, 1, 5000) == 1, "QEMU ends when its starter is killed", "");
	cleanup_close(&qemu);
}

static void bad_starts_are_refused(const struct rig *rig)
{
	struct machine *m = calloc(1, sizeof(*m));
	_cleanup_fd_ int ram = rig_memfd(64 * MIB), junk = memfd_create("junk", MFD_CLOEXEC);
	struct rig missing = *rig;

	missing.kernel = "/nonexistent/vmlinuz";
	check(machine_start(m, &missing, "bad", ram, 64 * MIB, 1, false) == -ENOENT &&
	      strstr(m->why, missing.kernel), "a missing kernel is named", m->why);
	machine_stop(m);
	check(machine_start(m, rig, "bad", ram, 64 * MIB, 0, false) == -EINVAL, "no CPUs", "");
	machine_stop(m);
	check(machine_start(m, rig, "bad", ram, 65 * MIB, 1, false) == -EINVAL,
	      "RAM of another size", "");
	machine_stop(m);

	m->refuse_ram = true;
	check(!machine_start(m, rig, "bad", ram, 64 * MIB, 1, true), "a start", m->why);
	check(machine_await(m, &m->ended, 10000) && strstr(m->why, "nobody takes care"),
	      "RAM that nobody serves ends QEMU", m->why);
	machine_stop(m);
	m->refuse_ram = false;

	check(!machine_start(m, rig, "bad", ram, 64 * MIB, 1, true), "a start", m->why);
	check(machine_await(m, &m->ready, 10000), "a clone waits", m->why);
	check(ftruncate(junk, 65536) == 0, "junk", "");
	check(machine_load(m, junk) < 0, "junk is no descriptor", "");
	check(machine_await(m, &m->ended, 10000), "and ends the clone", "");
	printf("junk: %s\n", m->why);
	machine_stop(m);
	free(m);
}

static void a_shim_that_cannot_load_is_noticed(const struct rig *rig)
{
	struct machine *m = calloc(1, sizeof(*m));
	_cleanup_fd_ int ram = rig_memfd(64 * MIB);
	struct rig odd = *rig;

	odd.shim = "/etc/passwd";
	check(!machine_start(m, &odd, "noshim", ram, 64 * MIB, 1, true), "a start", m->why);
	check(machine_await(m, &m->ended, 10000) && strstr(m->why, "shim"),
	      "QEMU does not go on without the shim", m->why);
	machine_stop(m);
	free(m);
}

static bool boot(struct machine *m, const struct rig *rig, int ram, uint64_t bytes, unsigned cpus)
{
	uint64_t started = io_now_ns();
	char word[16];

	if (!check(!machine_start(m, rig, "parent", ram, bytes, cpus, false), "start", m->why) ||
	    !check(machine_await(m, &m->ready, 30000), "ready", m->why))
		return false;
	snprintf(word, sizeof(word), "cpus %u", cpus);
	if (!check(machine_await_text(m, "tick 3", BOOT_LIMIT_MS), "boot", m->text))
		return false;
	printf("%llu MB, %u CPU: booted in %.1f s\n", (unsigned long long)(bytes / MIB), cpus,
	       ms_between(started, io_now_ns()) / 1e3);
	check(strstr(m->text, word), "the guest has its CPUs", m->text);
	check(strstr(m->text, "port " XENSTORE_PORT_NAME), "the guest has XenStore's port",
	      m->text);
	check(strstr(m->text, "port " AGENT_PORT_NAME), "the guest has the agent's port", m->text);
	ram_lies_where_it_should(m, bytes);
	the_bell_rings(m);
	return true;
}

static void test_machine(const struct rig *rig, uint64_t bytes, unsigned cpus, const char *size,
			 void (*end)(struct machine *m))
{
	struct machine *m = calloc(1, sizeof(*m));
	_cleanup_fd_ int ram = rig_memfd(bytes);
	_cleanup_fd_ int fd = rig_memfd(0);

	if (boot(m, rig, ram, bytes, cpus)) {
		qemu_is_confined(m);
		saves_take_the_same_time(m, fd, size);
		clones_go_on_from_the_same_instant(m, rig, ram, bytes, cpus);
		calls_that_do_not_fit_are_refused(m, fd);
		a_save_that_fails_leaves_the_vm_running(m);
		saves_take_the_same_time(m, fd, size);
		end(m);
	}
	machine_stop(m);
	free(m);
}

/* Return: true once no child process is left. */
static bool nothing_is_left(struct event_base *base)
{
	for (int i = 0; i < 100; i++) {
		siginfo_t info;

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) && errno == ECHILD)
			return true;
		rig_run_ms(base, 20);
	}
	return false;
}

static bool readable(const char *path)
{
	return path && !access(path, R_OK);
}

/* Return: 0, 77 or 1; *kernel and the file `initrd`. */
static int prepare(char *initrd, const char **kernel)
{
	static char guest_kernel[PATH_MAX], guest_initrd[PATH_MAX];
	const char *modules = getenv("SF_TEST_MODULES");
	const char *folder = getenv("SF_TEST_GUEST");
	int fd = mkstemp(initrd);

	if (fd < 0)
		return 1;
	close(fd);
	*kernel = getenv("SF_TEST_KERNEL");
	if (!*kernel && folder) {
		snprintf(guest_kernel, sizeof(guest_kernel), "%s/vmlinuz", folder);
		snprintf(guest_initrd, sizeof(guest_initrd), "%s/initrd.img", folder);
		*kernel = guest_kernel;
	}
	if (geteuid() || !readable(*kernel) || (!readable(modules) && !readable(guest_initrd)) ||
	    access("/dev/userfaultfd", R_OK) ||
	    system("command -v qemu-system-x86_64 >/dev/null")) {
		printf("SKIP: needs root, QEMU, /dev/userfaultfd and a guest kernel\n");
		return SKIP;
	}
	return initrd_make(initrd, script, modules, modules ? NULL : guest_initrd);
}

int main(void)
{
	char initrd[] = "/tmp/vm-clones.XXXXXX", why[128] = "";
	struct rig rig = { .shim = getenv("SF_TEST_SHIM"), .initrd = initrd,
			   .cmdline = "rdinit=" INITRD_INIT };
	int ret = prepare(initrd, &rig.kernel);

	setvbuf(stdout, NULL, _IOLBF, 0);
	log_init("vm-clones", LOG_LVL_WARN);
	signal(SIGPIPE, SIG_IGN);
	if (!ret) {
		check(!unshare(CLONE_NEWNET), "a network namespace for the test", "");
		rig.base = event_base_new();
		vmm_probe_accel(VMM_ACCEL_AUTO, &rig.accel, why, sizeof(why));
		printf("%s: %s\n", vmm_accel_name(rig.accel), why);
		bad_starts_are_refused(&rig);
		a_shim_that_cannot_load_is_noticed(&rig);
		a_malformed_environment_ends_the_program(&rig);
		bad_windows_are_refused(&rig);
		a_window_lies_over_the_ram(&rig);
		qemu_ends_with_who_started_it(&rig);
		test_machine(&rig, SMALL_BYTES, 1, "512 MB, 1 CPU", a_killed_qemu_is_reported);
		test_machine(&rig, LARGE_BYTES, 2, "2.5 GB, 2 CPUs", a_guest_may_end_its_vm);
		check(nothing_is_left(rig.base), "no process is left", "");
		event_base_free(rig.base);
		ret = failures != 0;
	}
	unlink(initrd);
	return ret;
}
