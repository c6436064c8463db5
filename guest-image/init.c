/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's first process: file systems, modules, the agent, and nothing else.
 *
 * A shell script would do the same in ten lines and take ten times as long under emulation, where
 * starting a process costs milliseconds. MODULES, which mkguest writes, names the modules in the
 * order to load them; those of DISK_MODULES are loaded if there is a disk. When the agent ends it is started again; orphans are reaped; SIGUSR1, SIGUSR2
 * and SIGTERM halt, power off and reboot, as busybox's commands of these names ask for it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define MODULES "/etc/snowflock/modules"
#define DISK_MODULES "/etc/snowflock/modules.disk"	/* packed by gzip */
#define VIRTIO_DEVICES "/sys/bus/virtio/devices"
#define VIRTIO_ID_BLOCK 2
#define AGENT "/usr/sbin/sf-agent"
#define AGAIN_FIRST_MS 100	/* before the agent is started again; doubles each time up to */
#define AGAIN_LONGEST_MS 5000	/* this */
#define AGENT_STABLE_S 60	/* an agent that lived this long begins with the first again */

static const struct {
	const char *type, *path, *options;
	unsigned long flags;
} mounts[] = {
	{ "devtmpfs", "/dev", "mode=0755", MS_NOSUID },
	{ "proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC },
	{ "devpts", "/dev/pts", "gid=5,mode=0620,ptmxmode=0666", MS_NOSUID | MS_NOEXEC },
	{ "tmpfs", "/dev/shm", "mode=1777", MS_NOSUID | MS_NODEV },
};

static const struct {
	const char *path, *target;
} links[] = {
	{ "/dev/fd", "/proc/self/fd" },	       { "/dev/stdin", "/proc/self/fd/0" },
	{ "/dev/stdout", "/proc/self/fd/1" },  { "/dev/stderr", "/proc/self/fd/2" },
};

/* To the console. */
static void __attribute__((format(printf, 1, 2))) say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	dprintf(STDERR_FILENO, "init: ");
	vdprintf(STDERR_FILENO, format, args);
	dprintf(STDERR_FILENO, "\n");
	va_end(args);
}

static void mount_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].path, 0755);
		if (mount(mounts[i].type, mounts[i].path, mounts[i].type, mounts[i].flags,
			  mounts[i].options))
			say("%s: %s", mounts[i].path, strerror(errno));
	}
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		if (symlink(links[i].target, links[i].path) && errno != EEXIST)
			say("%s: %s", links[i].path, strerror(errno));
	}
}

/* When memory is short the agent is to go last: without it nobody learns what happened. */
static void spare_me(void)
{
	_cleanup_fd_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "-900", 4) < 0)
		say("oom_score_adj: %s", strerror(errno));
}

/* The kernel gave us its console before /dev was there, or nothing. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++)
		dup2(fd, i);
	if (fd > STDERR_FILENO)
		close(fd);
}

static int load_plain(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -1 : (int)syscall(SYS_finit_module, fd, "", 0);
}

/* Unpacks a file into memory. Return: 0, or -1 with errno. */
static int unpack(const char *path, int to)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		dup2(to, STDOUT_FILENO);
		execl("/bin/busybox", "gunzip", "-c", path, NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	errno = EBADMSG;
	return status ? -1 : 0;
}

/* A file that is open for writing, as the unpacked one is, the kernel does not take. */
static int load_packed(const char *path)
{
	_cleanup_fd_ int fd = memfd_create("module", MFD_CLOEXEC);
	struct stat st;
	void *module;
	int ret;

	if (fd < 0 || unpack(path, fd) || fstat(fd, &st))
		return -1;
	module = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (module == MAP_FAILED)
		return -1;
	ret = (int)syscall(SYS_init_module, module, (unsigned long)st.st_size, "");
	munmap(module, (size_t)st.st_size);
	return ret;
}

/* Loads what a list names. */
static void load_modules(const char *name, int (*load)(const char *path))
{
	FILE *list = fopen(name, "re");
	char path[256];

	if (!list) {
		say("%s: %s", name, strerror(errno));
		return;
	}
	while (fgets(path, sizeof(path), list)) {
		path[strcspn(path, "\n")] = 0;
		if (*path && load(path) && errno != EEXIST)
			say("%s: %s", path, strerror(errno));
	}
	fclose(list);
}

/* Return: true if the number in a device's file, as in "0x0002", is that of a disk. */
static bool is_disk(int devices, const char *name)
{
	char path[300], text[16] = "";
	_cleanup_fd_ int fd = -1;

	snprintf(path, sizeof(path), "%s/device", name);
	fd = openat(devices, path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
	       strtoul(text, NULL, 0) == VIRTIO_ID_BLOCK;
}

static bool has_disk(void)
{
	DIR *devices = opendir(VIRTIO_DEVICES);
	const struct dirent *entry;
	bool found = false;

	if (!devices)
		return false;
	while (!found && (entry = readdir(devices)))
		found = entry->d_name[0] != '.' && is_disk(dirfd(devices), entry->d_name);
	closedir(devices);
	return found;
}

static pid_t start_agent(void)
{
	static char *const env[] = {
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/root", "USER=root", "LOGNAME=root", "SHELL=/bin/sh", "TERM=linux",
		"LANG=C.UTF-8", NULL
	};
	static char *const argv[] = { AGENT, NULL };
	sigset_t none;
	pid_t pid = fork();

	if (pid < 0)
		say("fork: %s", strerror(errno));
	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	spare_me();
	execve(AGENT, argv, env);
	say("%s: %s", AGENT, strerror(errno));
	_exit(127);
}

static time_t now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Reaps what has ended. Return: true if the agent is among it. */
static bool reap(pid_t agent)
{
	bool was_agent = false;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != agent)
			continue;
		was_agent = true;
		say("the agent ended with wait status %#x", (unsigned)status);
	}
	return was_agent;
}

static void end(int how)
{
	kill(-1, SIGKILL);
	sync();
	reboot(how);
}

/* Starts the agent whenever it is not there, and serves signals, for ever. */
static void __attribute__((noreturn)) keep_agent(const sigset_t *signals)
{
	unsigned again_ms = AGAIN_FIRST_MS;
	time_t since_s = now_s();
	pid_t agent = start_agent();

	for (;;) {
		struct timespec wait = { again_ms / 1000, (long)(again_ms % 1000) * 1000000 };
		int sig = sigtimedwait(signals, NULL, agent > 0 ? NULL : &wait);

		if (sig == SIGUSR1)
			end(RB_HALT_SYSTEM);
		else if (sig == SIGUSR2)
			end(RB_POWER_OFF);
		else if (sig == SIGTERM || sig == SIGINT)
			end(RB_AUTOBOOT);
		if (sig == SIGCHLD && reap(agent)) {
			agent = -1;
			if (now_s() - since_s >= AGENT_STABLE_S)
				again_ms = AGAIN_FIRST_MS;
		} else if (agent <= 0 && sig < 0 && errno == EAGAIN) {
			since_s = now_s();
			agent = start_agent();
			again_ms *= 2;
			if (again_ms > AGAIN_LONGEST_MS)
				again_ms = AGAIN_LONGEST_MS;
		}
	}
}

int main(void)
{
	static const char hostname[] = "guest";
	sigset_t signals;

	if (getpid() != 1) {
		fprintf(stderr, "init: this is the first process of a Snowflock guest\n");
		return 2;
	}
	sigfillset(&signals);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	umask(0);
	mount_all();
	open_console();
	umask(022);
	load_modules(MODULES, load_plain);
	if (has_disk())
		load_modules(DISK_MODULES, load_packed);
	reboot(RB_DISABLE_CAD);
	if (sethostname(hostname, sizeof(hostname) - 1))
		say("hostname: %s", strerror(errno));
	keep_agent(&signals);
}
