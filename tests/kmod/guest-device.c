/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the guest: programs that use the module's device. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

static int open_device(void)
{
	int fd = open(SFK_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		fail(SFK_DEVICE);
	return fd;
}

int run_where(int argc, char **argv)
{
	struct sfk_where where;
	int fd = open_device();

	(void)argc;
	(void)argv;
	if (ioctl(fd, SFK_WHERE, &where))
		fail("SFK_WHERE");
	printf("version=%u gfn=%#llx pages=%llu\n", where.version, where.gfn, where.pages);
	return 0;
}

static struct sfk_prepare prepare_of(int argc, char **argv)
{
	struct sfk_prepare prepare = { .op = argc > 1 ? strtoull(argv[1], NULL, 0) : 1 };

	if (argc > 2)
		strncpy(prepare.nic, argv[2], sizeof(prepare.nic) - 1);
	return prepare;
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* As many signals as there can be. */
static void storm(void)
{
	struct itimerval each = { .it_interval.tv_usec = 50, .it_value.tv_usec = 50 };
	pid_t self = getpid();

	signal(SIGALRM, on_alarm);
	signal(SIGUSR1, on_alarm);
	setitimer(ITIMER_REAL, &each, NULL);
	if (fork())
		return;
	while (!kill(self, SIGUSR1))
		usleep(100);
	_exit(0);
}

/* hold OP [NIC [storm]] */
int run_hold(int argc, char **argv)
{
	struct sfk_prepare prepare = prepare_of(argc, argv);
	uint8_t random[16];
	struct sfk_held held;
	int fd = open_device();

	if (ioctl(fd, SFK_PREPARE, &prepare))
		fail("SFK_PREPARE");
	if (argc > 3)
		storm();
	if (ioctl(fd, SFK_HOLD, &held))
		fail("SFK_HOLD");
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		fail("getrandom");
	printf("id=%u clone=%u network_error=%d connections=%u addressed_ns=%llu note=%.32s ",
	       held.id, held.clone, held.network_error, held.connections, held.addressed_ns,
	       held.note);
	printf("random=");
	for (size_t i = 0; i < sizeof(random); i++)
		printf("%02x", random[i]);
	puts("");
	return 0;
}

/* prepare OP [NIC]: and waits to be killed. */
int run_prepare(int argc, char **argv)
{
	struct sfk_prepare prepare = prepare_of(argc, argv);
	int fd = open_device();

	if (ioctl(fd, SFK_PREPARE, &prepare))
		fail("SFK_PREPARE");
	ready();
	pause();
	return 0;
}

static void expect(const char *what, int got, int error)
{
	if (got < 0 && errno == error)
		return;
	printf("%s: %d, errno %d instead of %d\n", what, got, errno, error);
	exit(1);
}

/* Whatever one can do wrong. */
int run_misuse(int argc, char **argv)
{
	struct sfk_prepare none = { .op = 1 }, zero = { .op = 0 };
	struct sfk_prepare wrong = { .op = 1, .nic = "no0" }, loopback = { .op = 1, .nic = "lo" };
	struct sfk_prepare endless = { .op = 1, .nic = "0123456789abcdef" };
	int fd = open_device(), other = open_device(), status;
	struct sfk_held held;

	(void)argc;
	(void)argv;
	expect("unknown", ioctl(fd, _IO('S', 0x77), 0), ENOTTY);
	expect("where", ioctl(fd, SFK_WHERE, NULL), EFAULT);
	expect("prepare", ioctl(fd, SFK_PREPARE, (void *)8), EFAULT);
	expect("op 0", ioctl(fd, SFK_PREPARE, &zero), EINVAL);
	expect("no such NIC", ioctl(fd, SFK_PREPARE, &wrong), ENODEV);
	expect("a name without end", ioctl(fd, SFK_PREPARE, &endless), ENODEV);
	expect("loopback", ioctl(fd, SFK_PREPARE, &loopback), ENODEV);
	expect("hold", ioctl(fd, SFK_HOLD, &held), ENXIO);
	if (ioctl(fd, SFK_PREPARE, &none) || ioctl(fd, SFK_PREPARE, &none))
		fail("prepare twice");
	expect("prepare a second", ioctl(other, SFK_PREPARE, &none), EBUSY);
	expect("hold a second", ioctl(other, SFK_HOLD, &held), ENXIO);
	expect("nowhere", ioctl(fd, SFK_HOLD, (void *)8), EFAULT);
	close(fd);
	if (ioctl(other, SFK_PREPARE, &none))
		fail("prepare after the first has closed");
	if (!fork()) {
		if (setgroups(0, NULL) || setuid(1000))
			fail("setuid");
		expect("not root", open(SFK_DEVICE, O_RDWR), EACCES);
		exit(0);
	}
	return wait(&status) < 0 || status;
}
