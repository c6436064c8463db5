/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boots a guest under a plain QEMU and speaks with its agent: boot-driver KERNEL INITRD [DISK
 * [CMDLINE]]. With a disk, that is what is tested; with a command line, that the system on it is
 * well. Says on standard error how long it took to the
 * agent's hello.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/io.h"
#include "harness.h"
#include "host/sfd/xs_server.h"

#define CMDLINE                                                                              \
	"console=ttyS0 panic=-1 quiet mitigations=off tsc=reliable no_timer_check "           \
	"cryptomgr.notests init_on_alloc=0 transparent_hugepage=madvise nowatchdog "          \
	"rcupdate.rcu_cpu_stall_suppress=1 ipv6.disable_ipv6=1 "

#define ROOM (1u << 20)

static const char *kernel, *initrd, *disk, *cmdline = "";
static char out[ROOM], err[ROOM];
static uint64_t started_ns;

static void run_qemu(const struct guest *g, int port, int xs)
{
	char port_arg[64], xs_arg[64], append[512], drive[512];

	(void)g;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(port_arg, sizeof(port_arg), "socket,id=agent,fd=%d", dup(port));
	snprintf(xs_arg, sizeof(xs_arg), "socket,id=xenstore,fd=%d", dup(xs));
	snprintf(append, sizeof(append), CMDLINE "%s", cmdline);
	snprintf(drive, sizeof(drive), "file=%s,format=raw,if=none,id=disk,snapshot=on", disk);
	execlp("qemu-system-x86_64", "qemu-system-x86_64", "-machine",
	       "q35,vmport=off,smbus=off,sata=off,usb=off,graphics=off,smm=off,i8042=off", "-accel",
	       "tcg,thread=multi", "-cpu", "Nehalem", "-m", "512M", "-nodefaults",
	       "-no-user-config", "-no-reboot", "-display", "none", "-chardev",
	       "file,id=console,path=/dev/stderr,append=on", "-serial", "chardev:console",
	       "-device", "virtio-serial-pci,max_ports=3,disable-legacy=on",
	       "-chardev", xs_arg, "-device",
	       "virtserialport,nr=1,chardev=xenstore,name=" XENSTORE_PORT_NAME,
	       "-chardev", port_arg, "-device",
	       "virtserialport,nr=2,chardev=agent,name=" AGENT_PORT_NAME,
	       "-object", "rng-builtin,id=random", "-device",
	       "virtio-rng-pci,rng=random,disable-legacy=on",
	       "-netdev", "user,id=net,restrict=on,ipv6=off", "-device",
	       "virtio-net-pci,netdev=net,mac=46:00:00:00:00:63,disable-legacy=on,romfile=", "-kernel", kernel,
	       "-initrd", initrd, "-append", append,
	       disk ? "-drive" : NULL, drive, "-device",
	       "virtio-blk-pci,drive=disk,disable-legacy=on", NULL);
	perror("qemu-system-x86_64");
}

/* -- XenStore ---------------------------------------------------------------------------- */

static void xs_bytes(void *arg, const void *bytes, size_t len)
{
	if (io_write_full(*(int *)arg, bytes, len))
		_exit(1);
}

static void xs_changed(void *arg, const char *path, const char *value, size_t len)
{
	(void)arg;
	(void)path;
	(void)value;
	(void)len;
}

static int xs_count[2];	/* a pipe: the bytes sent, told at SIGUSR1 */
static struct xs_server *server;

static void tell_count(int sig)
{
	uint64_t sent = xs_sent(server);

	(void)sig;
	if (write(xs_count[1], &sent, sizeof(sent)) < 0)
		_exit(1);
}

/* Serves the guest's XenStore from a process of its own. */
static pid_t serve_xenstore(int fd)
{
	static const struct xs_hooks hooks = { .send = xs_bytes, .changed = xs_changed };
	char buf[4096];
	ssize_t got;
	pid_t pid;

	CU_ASSERT_EQUAL_FATAL(pipe(xs_count), 0);
	pid = fork();
	if (pid)
		return pid;
	signal(SIGUSR1, tell_count);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	server = xs_create(7, NULL, &hooks, &fd);
	if (!server || xs_host_write(server, "domid", "7", false) ||
	    xs_host_write(server, "name", "a guest", false) ||
	    xs_host_write(server, "data", "", true))
		_exit(1);
	while ((got = read(fd, buf, sizeof(buf))) > 0) {
		if (xs_input(server, buf, (size_t)got))
			_exit(1);
	}
	_exit(0);
}

/* -- the tests ---------------------------------------------------------------------------- */

static struct guest *g;
static pid_t xenstore;

static double seconds(void)
{
	return (double)(io_now_ns() - started_ns) / 1e9;
}

static void the_guest_boots(void)
{
	struct agent_resume resume = { .count = 0, .mac = { 2, 0, 0, 0, 0, 1 }, .prefix = 16,
				       .address = inet_addr("10.77.0.1"),
				       .gateway = inet_addr("10.77.255.254"),
				       .parent = inet_addr("10.77.0.1"),
				       .answer_port = AGENT_ANSWER_PORT };
	struct timespec now;
	int tries = 0;

	started_ns = io_now_ns();
	g = guest_start_by(run_qemu);
	xenstore = serve_xenstore(g->xs);
	while (!guest_speaks(g, 1000) && tries++ < 120)
		CU_ASSERT_EQUAL_FATAL(waitpid(g->pid, NULL, WNOHANG), 0);
	guest_expect(g, AGENT_HELLO, 0);
	fprintf(stderr, "hello after %.2f s\n", seconds());
	clock_gettime(CLOCK_REALTIME, &now);
	resume.realtime_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	CU_ASSERT_EQUAL(((const struct agent_status *)guest_expect(g, AGENT_RESUMED, 0))->value, 0);
	fprintf(stderr, "resumed after %.2f s\n", seconds());
}

static void shell(uint32_t stream, const char *command, const char *expected)
{
	uint64_t begin = io_now_ns();

	guest_exec(g, stream, 0, "sh", "-c", command, NULL);
	CU_ASSERT_EQUAL(guest_output(g, stream, out, err, ROOM), 0);
	CU_ASSERT_STRING_EQUAL(out, expected);
	fprintf(stderr, "%s: %.0f ms\n%s%s", command, (double)(io_now_ns() - begin) / 1e6, out,
		err);
}

static void commands_run(void)
{
	shell(1, "echo hi", "hi\n");
	shell(2, "cat /etc/hostname; ls /dev/pts/ptmx /dev/shm -d",
	      "guest\n/dev/pts/ptmx\n/dev/shm\n");
	shell(3, "bash -c 'echo $((6*7))'", "42\n");
	shell(4, "cat /proc/$PPID/oom_score_adj /proc/self/oom_score_adj; ulimit -n",
	      "-900\n0\n1024\n");
}

static void it_has_its_address(void)
{
	shell(1, "ip -4 -o addr show dev eth0 | sed 's/.*inet //;s/ scope.*//'",
	      "10.77.0.1/16 brd 10.77.255.255\n");
	shell(2, "ip route | head -n 1", "default via 10.77.255.254 dev eth0 \n");
	shell(3, "cat /sys/class/net/eth0/address", "02:00:00:00:00:01\n");
	shell(4, "cat /sys/class/net/lo/operstate; ping -c 1 -q 127.0.0.1 >/dev/null && echo ok",
	      "unknown\nok\n");
}

static void its_clock_is_right(void)
{
	struct timespec now;
	long long guest_s;

	guest_exec(g, 1, 0, "date", "+%s", NULL);
	CU_ASSERT_EQUAL(guest_output(g, 1, out, err, ROOM), 0);
	clock_gettime(CLOCK_REALTIME, &now);
	guest_s = atoll(out);
	CU_ASSERT_TRUE(guest_s >= now.tv_sec - 2 && guest_s <= now.tv_sec + 1);
}

static void a_program_is_put_and_runs(void)
{
	static const char script[] = "#!/bin/sh\necho I am $0\nexit 4\n";
	struct { struct agent_put head; char path[32]; } put = {
		.head = { .mode = 0755, .length = sizeof(script) - 1 }, .path = "/opt/tools/say"
	};
	int status;

	guest_send(g, AGENT_PUT, 0, 1, &put, sizeof(put.head) + strlen(put.path) + 1);
	guest_send(g, AGENT_DATA, AGENT_STDIN, 1, script, sizeof(script) - 1);
	CU_ASSERT_EQUAL(((const struct agent_status *)guest_expect(g, AGENT_STORED, 1))->value, 0);
	guest_exec(g, 2, 0, "/opt/tools/say", NULL);
	status = guest_output(g, 2, out, err, ROOM);
	CU_ASSERT_EQUAL(WEXITSTATUS(status), 4);
	CU_ASSERT_STRING_EQUAL(out, "I am /opt/tools/say\n");
}

static void xenstore_utils_work(void)
{
	shell(1, "xenstore-read name domid", "a guest\n7\n");
	shell(2, "xenstore-write data/x 5 data/y 6 && xenstore-list data", "x\ny\n");
	shell(3, "for i in 1 2 3 4 5 6 7 8; do xenstore-write data/$i $i & done; wait;"
	      "xenstore-list data | wc -l", "10\n");
	shell(4, "xenstore-watch -n 2 data/z >/tmp/w & for i in 1 2 3 4 5 6 7 8 9; do "
	      "grep -q . /tmp/w && break; sleep 0.1; done;"
	      "xenstore-write data/z 1; wait; cat /tmp/w", "data/z\ndata/z\n");
}

static void idle_costs_little(void)
{
	char path[64], *stat;
	unsigned long before = 0, after = 0, *ticks[] = { &before, &after };
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", g->pid);
	for (int i = 0; i < 2; i++) {
		unsigned long user, system;
		const char *at;

		poll(NULL, 0, i ? 2000 : 500);
		CU_ASSERT_EQUAL_FATAL(io_read_file(path, 4096, &stat, &len), 0);
		at = strrchr(stat, ')');
		/* from the third field, the state, on: the 14th and 15th */
		CU_ASSERT_EQUAL(2, sscanf(at + 1,
					  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
					  &user, &system));
		*ticks[i] = user + system;
		free(stat);
	}
	fprintf(stderr, "idle: %.1f %% of a processor\n",
		(double)(after - before) * 100 / (double)sysconf(_SC_CLK_TCK) / 2);
	CU_ASSERT_TRUE(after - before < (unsigned long)sysconf(_SC_CLK_TCK));
}

/* Here the VM itself goes on under another name: what the agent does is the same. */
static void it_becomes_a_clone(void)
{
	struct agent_quiesce quiesce = { .op = 1 };
	struct agent_resume resume = { .op = 1, .id = 2, .count = 4, .mac = { 2, 0, 0, 0, 0, 3 },
				       .prefix = 16, .address = inet_addr("10.77.0.3"),
				       .gateway = inet_addr("10.77.255.254"),
				       .parent = inet_addr("10.77.0.1"),
				       .answer_port = AGENT_ANSWER_PORT };
	uint64_t begin;

	/* the bytes that the XenStore server sent are known to its process alone */
	kill(xenstore, SIGUSR1);
	CU_ASSERT_EQUAL(read(xs_count[0], &quiesce.xs_sent, sizeof(quiesce.xs_sent)),
			sizeof(quiesce.xs_sent));
	guest_exec(g, 9, 0, "sh", "-c", "echo before; cat; ip -4 -o addr show dev eth0", NULL);
	guest_expect(g, AGENT_DATA, 9);
	begin = io_now_ns();
	guest_send(g, AGENT_QUIESCE, 0, 0, &quiesce, sizeof(quiesce));
	guest_expect(g, AGENT_QUIESCED, 0);
	fprintf(stderr, "quiet after %.1f ms\n", (double)(io_now_ns() - begin) / 1e6);
	begin = io_now_ns();
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	CU_ASSERT_EQUAL(((const struct agent_status *)guest_expect(g, AGENT_RESUMED, 0))->value, 0);
	fprintf(stderr, "a clone after %.1f ms\n", (double)(io_now_ns() - begin) / 1e6);
	CU_ASSERT_EQUAL(guest_output(g, 9, out, err, ROOM), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out, "inet 10.77.0.3/16"));
	CU_ASSERT_PTR_NULL(strstr(out, "10.77.0.1/"));
	shell(1, "cat /sys/class/net/eth0/address", "02:00:00:00:00:03\n");
	/* busybox and iproute2 say it differently */
	shell(2, "ip route | sed 's/ proto kernel//; s/  / /'; ip neigh | sed 's/ [rR][eE].*//'",
	      "default via 10.77.255.254 dev eth0 \n"
	      "10.77.0.0/16 dev eth0 scope link src 10.77.0.3 \n"
	      "10.77.0.1 dev eth0 lladdr 02:00:00:00:00:01\n");
	shell(3, "xenstore-read name", "a guest\n");
}

static void the_agent_is_started_again(void)
{
	struct agent_resume resume = { .count = 0 };

	guest_exec(g, 20, 0, "sh", "-c", "kill -KILL $PPID", NULL);
	guest_expect(g, AGENT_HELLO, 0);
	guest_send(g, AGENT_RESUME, 0, 0, &resume, sizeof(resume));
	CU_ASSERT_EQUAL(((const struct agent_status *)guest_expect(g, AGENT_RESUMED, 0))->value, 0);
	shell(1, "echo again", "again\n");
}

static void without_a_disk_nothing_is_loaded_for_one(void)
{
	shell(1, "ls /sys/module | grep -cx -e ext4 -e virtio_blk; true", "0\n");
}

static void it_has_its_disk(void)
{
	shell(1, "mount /dev/vda /mnt && cat /mnt/hello", "hello\n");
	shell(2, "echo written >/mnt/mine && umount /mnt && mount -o ro /dev/vda /mnt && "
	      "cat /mnt/mine && umount /mnt", "written\n");
}

static void its_system_is_well(void)
{
	shell(1, "systemctl is-system-running --wait; systemctl --failed --no-legend", "running\n");
	shell(2, "systemctl show -p ActiveState,NRestarts sf-agent; findmnt -no SOURCE /",
	      "NRestarts=0\nActiveState=active\n/dev/vda1\n");
	shell(3, "wc -c </etc/machine-id; findmnt -n /etc/machine-id; true", "33\n");
	shell(4, "modinfo -n snowflock | grep -c /snowflock.ko", "1\n");
}

static void it_reboots(void)
{
	guest_exec(g, 9, 0, "reboot", NULL);
	for (int i = 0; i < 1000 && !waitpid(g->pid, NULL, WNOHANG); i++)
		poll(NULL, 0, 10);
	CU_ASSERT_EQUAL(kill(g->pid, 0), -1);
	g->pid = -1;
	kill(xenstore, SIGKILL);
	waitpid(xenstore, NULL, 0);
	guest_stop(g);
}

int main(int argc, char **argv)
{
	static const CU_TestInfo tests[] = {
		{ "the guest boots", the_guest_boots },
		{ "commands run", commands_run },
		{ "it has its address", it_has_its_address },
		{ "its clock is right", its_clock_is_right },
		{ "a program is put and runs", a_program_is_put_and_runs },
		{ "xenstore-utils work", xenstore_utils_work },
		{ "without a disk nothing is loaded for one",
		  without_a_disk_nothing_is_loaded_for_one },
		{ "idle costs little", idle_costs_little },
		{ "it becomes a clone", it_becomes_a_clone },
		{ "the agent is started again", the_agent_is_started_again },
		{ "it reboots, which ends it", it_reboots },
		CU_TEST_INFO_NULL
	};
	static const CU_TestInfo system_tests[] = {
		{ "the guest boots", the_guest_boots },
		{ "its system is well", its_system_is_well },
		{ "it has its address", it_has_its_address },
		{ "xenstore-utils work", xenstore_utils_work },
		{ "it becomes a clone", it_becomes_a_clone },
		{ "the agent is started again", the_agent_is_started_again },
		{ "it reboots, which ends it", it_reboots },
		CU_TEST_INFO_NULL
	};
	static const CU_TestInfo disk_tests[] = {
		{ "the guest boots", the_guest_boots },
		{ "it has its disk", it_has_its_disk },
		{ "it reboots, which ends it", it_reboots },
		CU_TEST_INFO_NULL
	};

	if (argc < 3) {
		fprintf(stderr, "usage: boot-driver KERNEL INITRD [DISK [CMDLINE]]\n");
		return 2;
	}
	kernel = argv[1];
	initrd = argv[2];
	if (argc > 3)
		disk = argv[3];
	if (argc > 4)
		cmdline = argv[4];
	return run_suite("guest image", argc > 4 ? system_tests : disk ? disk_tests : tests);
}
