/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In a guest of plain QEMU: started by the kernel (rdinit=), writes memory, then is seen to live.
 *
 *   guest-fill MB
 *
 * The guest's own /init goes on as the first process, so the guest is the one that is cloned
 * elsewhere. A child of it writes MB megabytes, says "filled" on the console, and from then on
 * prints a ~ every 10 ms: a machine that was restored is back when there is one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONSOLE "/bench-console"
#define MIB_WORDS ((1u << 20) / sizeof(uint64_t))
#define TICK_US 10000

static void say(int console, const char *text)
{
	if (write(console, text, strlen(text)) < 0)
		_exit(1);
}

static void __attribute__((noreturn)) fill(int console, size_t mib)
{
	uint64_t *words = malloc(mib * MIB_WORDS * sizeof(*words));

	for (size_t i = 0; words && i < mib * MIB_WORDS; i++)
		words[i] = i * 0x9e3779b97f4a7c15ull ^ i >> 7;
	say(console, words ? "\nfilled\n" : "\nno memory\n");
	for (;;) {
		usleep(TICK_US);
		say(console, "~");
	}
}

int main(int argc, char **argv)
{
	char *const args[] = { "/init", NULL };
	int console;

	mknod(CONSOLE, S_IFCHR | 0600, makedev(5, 1));
	console = open(CONSOLE, O_WRONLY | O_NOCTTY | O_CLOEXEC);
	if (!fork())
		fill(console, argc > 1 ? strtoul(argv[1], NULL, 10) : 0);
	return execv(args[0], args);
}
