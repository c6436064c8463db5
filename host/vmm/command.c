/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QEMU's command line, as a table.
 *
 * A parent and its clones must have the same devices at the same places, or the clone cannot load
 * the parent's state: so every device has its id and address written down, and a clone's line
 * differs only in how RAM is mapped, in what it waits for, and in having no kernel to load (its
 * kernel is in the RAM it inherits). What a clone does not need is not there at all: each device
 * adds to the descriptor and to the time until a clone runs.
 */
#define _GNU_SOURCE
#include "host/vmm/command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"
#include "host/vmm/tsc.h"
#include "proto/agent-port.h"
#include "proto/kmod.h"

enum condition {
	ALWAYS = 0,
	BOOT = 1 << 0,
	CLONE = 1 << 1,
	NETWORK = 1 << 2,
	TCG = 1 << 3,
	KVM = 1 << 4,
	KERNEL = 1 << 5,
	INITRD = 1 << 6,
	DISK = 1 << 7,	/* once for each */
};

/*
 * What every guest's kernel is told. A kernel that panics ends the VM at once (with -no-reboot).
 * The rest keeps a kernel that wakes up in a clone from doing what nobody asked for, because all of
 * it is cold there: statistics of memory pressure, security modules that have no policy, auditing,
 * groups of terminals, compaction ahead; wiping or joining pages that must come over the network
 * first. And a clone may have to wait for its memory, which is no stall.
 */
#define KERNEL_OPTIONS \
	"console=ttyS0 panic=-1 quiet cryptomgr.notests init_on_alloc=0 psi=0 lsm= audit=0 " \
	"noautogroup sysctl.vm.compaction_proactiveness=0 " \
	"transparent_hugepage=madvise nowatchdog rcupdate.rcu_cpu_stall_suppress=1"

/*
 * IPv6, if the guest has it, likewise: it makes no addresses, looks for nobody who might have them,
 * asks for no routers and believes none. Even so it has work to do when addresses change.
 */
#define NO_IPV6 "ipv6.disable_ipv6=1"
#define IPV6_DEFAULT(setting) "sysctl.net.ipv6.conf.default." setting
#define QUIET_IPV6 \
	IPV6_DEFAULT("addr_gen_mode=1") " " IPV6_DEFAULT("accept_dad=0") " " \
	IPV6_DEFAULT("dad_transmits=0") " " IPV6_DEFAULT("router_solicitations=0") " " \
	IPV6_DEFAULT("accept_ra=0") " " IPV6_DEFAULT("autoconf=0")

#define FIRST_DISK_SLOT 5u /* on pcie.0 */

#define TEXT_OF(number) #number
#define TEXT(number)	TEXT_OF(number)

/*
 * A disk. Its geometry is written down because QEMU would read the first sector to guess one, and
 * the server of a clone's disk answers only when the clone begins. A request that fails is the
 * guest's to hear of, as from a real disk. Blocks are the server's pages.
 */
#define DISK_DEVICE \
	"virtio-blk-pci,id=disk{disk},drive=blocks{disk},bus=pcie.0,addr={disk_slot},num-queues=1," \
	"disable-legacy=on,cyls=1024,heads=16,secs=63,physical_block_size=4096,config-wce=off," \
	"discard_granularity=4096,werror=report,rerror=report,bootindex={disk_slot}"

/*
 * RAM ends at 2 GiB and goes on at 4 GiB, whatever QEMU would choose: proto/kmod.h counts on it.
 * In values, {word} is replaced; see `words` below.
 */
static const struct {
	unsigned when;
	const char *option;
	const char *value;
} arguments[] = {
	{ ALWAYS, "-name", "{name}" },
	{ ALWAYS, "-machine",
	  "q35,memory-backend=ram,dump-guest-core=off,mem-merge=off,suppress-vmdesc=on,"
	  "vmport=off,smbus=off,sata=off,usb=off,graphics=off,smm=off,i8042=off,"
	  "max-ram-below-4g=2G" },
	{ TCG, "-accel", "tcg,thread=multi,tb-size=128" },
	{ KVM, "-accel", "kvm" },
	{ ALWAYS, "-cpu", "{cpu},enforce" },
	{ ALWAYS, "-smp", "{cpus}" },
	{ ALWAYS, "-m", "size={ram_mib}M" },
	{ BOOT, "-object",
	  "memory-backend-file,id=ram,size={ram_mib}M,mem-path=/proc/self/fd/{ram},share=on" },
	{ CLONE, "-object",
	  "memory-backend-file,id=ram,size={ram_mib}M,mem-path=/proc/self/fd/{ram},share=off" },

	{ ALWAYS, "-nodefaults", NULL },
	{ ALWAYS, "-no-user-config", NULL },
	{ ALWAYS, "-no-reboot", NULL },
	{ ALWAYS, "-display", "none" },
	{ ALWAYS, "-sandbox",
	  "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny" },

	{ ALWAYS, "-chardev", "socket,id=qmp,fd={qmp}" },
	{ ALWAYS, "-mon", "chardev=qmp,mode=control" },
	/* append: a pipe can not be truncated. */
	{ ALWAYS, "-add-fd", "fd={console},set=1" },
	{ ALWAYS, "-chardev", "file,id=console,path=/dev/fdset/1,append=on" },
	{ ALWAYS, "-serial", "chardev:console" },

	{ ALWAYS, "-device",
	  "virtio-serial-pci,id=ports,bus=pcie.0,addr=0x2,max_ports=3,disable-legacy=on" },
	{ ALWAYS, "-chardev", "socket,id=xenstore,fd={xenstore}" },
	{ ALWAYS, "-device",
	  "virtserialport,id=port1,bus=ports.0,nr=1,chardev=xenstore,name=" XENSTORE_PORT_NAME },
	{ ALWAYS, "-chardev", "socket,id=agent,fd={agent}" },
	{ ALWAYS, "-device",
	  "virtserialport,id=port2,bus=ports.0,nr=2,chardev=agent,name=" AGENT_PORT_NAME },
	/* The guest's kernel module rings by writing to this port. */
	{ ALWAYS, "-chardev", "socket,id=doorbell,fd={doorbell}" },
	{ ALWAYS, "-device",
	  "isa-debugcon,iobase=" TEXT(SFK_DOORBELL_PORT) ",readback=" TEXT(SFK_DOORBELL_ID) ","
	  "chardev=doorbell" },
	/* Another number in each clone: a kernel without the module hears from it what happened. */
	{ ALWAYS, "-device", "vmgenid,guid=auto" },
	{ ALWAYS, "-object", "rng-builtin,id=random" },
	{ ALWAYS, "-device",
	  "virtio-rng-pci,id=rng0,rng=random,bus=pcie.0,addr=0x3,disable-legacy=on" },
	{ NETWORK, "-netdev", "tap,id=net,fd={tap},vhost=off" },
	/* guest_announce: a clone that wakes up must not call out its parent's address. */
	{ NETWORK, "-device",
	  "virtio-net-pci,id=net0,netdev=net,mac={mac},bus=pcie.0,addr=0x4,disable-legacy=on,"
	  "guest_announce=off,romfile=" },

	{ DISK, "-blockdev",
	  "driver=nbd,node-name=blocks{disk},server.type=fd,server.str={disk_fd},discard=unmap" },
	{ DISK, "-device", DISK_DEVICE },

	{ BOOT | KERNEL, "-kernel", "/proc/self/fd/{kernel}" },
	{ BOOT | INITRD, "-initrd", "/proc/self/fd/{initrd}" },
	{ BOOT | KERNEL | TCG, "-append",
	  KERNEL_OPTIONS " {ipv6} mitigations=off tsc=reliable {tsc} no_timer_check {cmdline}" },
	{ BOOT | KERNEL | KVM, "-append", KERNEL_OPTIONS " {ipv6} {cmdline}" },
	{ CLONE, "-incoming", "defer" },
};
_Static_assert(2 * (ARRAY_SIZE(arguments) + 2 * (VMM_MAX_DISKS - 1)) + 2 <= COMMAND_MAX_ARGS, "room for every row");

/* Puts a word's replacement in place; `disk`: which of the disks the row is about. */
typedef void expand(FILE *out, const struct vmm_config *config, unsigned disk);

/* QEMU's option syntax splits at commas; a doubled comma is one. */
static void expand_name(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	for (const char *c = config->name; *c; c++)
		fprintf(out, *c == ',' ? ",," : "%c", *c);
}

static void expand_cpu(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	fputs(vmm_cpu_model(config->accel), out);
}

static void expand_cpus(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	fprintf(out, "%u", config->cpus);
}

static void expand_ram_mib(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	fprintf(out, "%" PRIu64, config->ram_bytes >> 20);
}

static void expand_mac(FILE *out, const struct vmm_config *config, unsigned disk)
{
	const uint8_t *m = config->mac;

	(void)disk;
	fprintf(out, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void expand_ipv6(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	fputs(config->ipv6 ? QUIET_IPV6 : NO_IPV6, out);
}

/* How fast its clock is: it would be wrong about that if it had to find out on a busy machine. */
static void expand_tsc(FILE *out, const struct vmm_config *config, unsigned disk)
{
	uint32_t khz = tsc_khz();

	(void)config;
	(void)disk;
	if (khz)
		fprintf(out, "tsc_early_khz=%" PRIu32, khz);
}

static void expand_cmdline(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)disk;
	fputs(config->cmdline ? config->cmdline : "", out);
}

static void expand_disk(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)config;
	fprintf(out, "%u", disk);
}

static void expand_disk_slot(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)config;
	fprintf(out, "0x%x", FIRST_DISK_SLOT + disk);
}

static void expand_disk_fd(FILE *out, const struct vmm_config *config, unsigned disk)
{
	(void)config;
	fprintf(out, "%u", QEMU_FD_DISK + disk);
}

static const struct {
	const char *word;
	expand *expand;		/* or, if NULL … */
	enum qemu_fd fd;	/* … this number */
} words[] = {
	{ "name", expand_name, 0 },
	{ "cpu", expand_cpu, 0 },
	{ "cpus", expand_cpus, 0 },
	{ "ram_mib", expand_ram_mib, 0 },
	{ "mac", expand_mac, 0 },
	{ "ipv6", expand_ipv6, 0 },
	{ "tsc", expand_tsc, 0 },
	{ "cmdline", expand_cmdline, 0 },
	{ "disk", expand_disk, 0 },
	{ "disk_slot", expand_disk_slot, 0 },
	{ "disk_fd", expand_disk_fd, 0 },
	{ "console", NULL, QEMU_FD_CONSOLE },
	{ "qmp", NULL, QEMU_FD_QMP },
	{ "ram", NULL, QEMU_FD_RAM },
	{ "xenstore", NULL, QEMU_FD_XENSTORE },
	{ "agent", NULL, QEMU_FD_AGENT },
	{ "doorbell", NULL, QEMU_FD_DOORBELL },
	{ "tap", NULL, QEMU_FD_TAP },
	{ "kernel", NULL, QEMU_FD_KERNEL },
	{ "initrd", NULL, QEMU_FD_INITRD },
};

static int expand_word(FILE *out, const char *word, size_t len, const struct vmm_config *config,
		       unsigned disk)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (strlen(words[i].word) != len || memcmp(words[i].word, word, len))
			continue;
		if (words[i].expand)
			words[i].expand(out, config, disk);
		else
			fprintf(out, "%d", words[i].fd);
		return 0;
	}
	return -EINVAL;
}

/* Replaces the {words} of a value. Return: 0 and *text (the caller's to free), or -errno. */
static int expand_value(const char *value, const struct vmm_config *config, unsigned disk,
			char **text)
{
	size_t len;
	FILE *out = open_memstream(text, &len);
	int ret = out ? 0 : -ENOMEM;

	if (!out)
		return ret;
	while (*value && !ret) {
		size_t plain = strcspn(value, "{");

		fwrite(value, 1, plain, out);
		value += plain;
		if (*value) {
			size_t inside = strcspn(++value, "}");

			ret = expand_word(out, value, inside, config, disk);
			value += inside + 1;
		}
	}
	if (fclose(out) && !ret)
		ret = -ENOMEM;
	if (ret) {
		free(*text);
		*text = NULL;
	}
	return ret;
}

static unsigned conditions(const struct vmm_config *config)
{
	return (config->clone ? CLONE : BOOT) | (config->tap_fd >= 0 ? NETWORK : 0) |
	       (config->accel == VMM_ACCEL_KVM ? KVM : TCG) | (config->kernel ? KERNEL : 0) |
	       (config->initrd ? INITRD : 0) | (config->disk_count ? DISK : 0);
}

/* How often a row is there: once for each disk, if it is about disks. */
static unsigned row_repeats(unsigned when, const struct vmm_config *config)
{
	return when & DISK ? config->disk_count : 1;
}

/* Appends an option with its value. Return: 0 or -errno. */
static int add_row(char **argv, int *argc, size_t row, const struct vmm_config *config,
		   unsigned disk)
{
	argv[*argc] = strdup(arguments[row].option);
	if (!argv[(*argc)++])
		return -ENOMEM;
	if (!arguments[row].value)
		return 0;
	return expand_value(arguments[row].value, config, disk, &argv[(*argc)++]);
}

int command_build(const struct vmm_config *config, const char *program,
		  char *argv[COMMAND_MAX_ARGS])
{
	unsigned have = conditions(config);
	int argc = 0;
	int ret = 0;

	memset(argv, 0, COMMAND_MAX_ARGS * sizeof(*argv));
	argv[argc] = strdup(program);
	ret = argv[argc++] ? 0 : -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(arguments) && !ret; i++) {
		if ((arguments[i].when & have) != arguments[i].when)
			continue;
		for (unsigned k = 0; k < row_repeats(arguments[i].when, config) && !ret; k++)
			ret = add_row(argv, &argc, i, config, k);
	}
	if (ret)
		command_free(argv);
	return ret ? ret : argc;
}

void command_free(char *argv[COMMAND_MAX_ARGS])
{
	for (int i = 0; i < COMMAND_MAX_ARGS; i++) {
		free(argv[i]);
		argv[i] = NULL;
	}
}
