/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two system calls: who this clone is goes into the kernel's pool, and new keys come out of it. */
#include "agent/reseed.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/log.h"

int reseed_open(void)
{
	return open("/dev/urandom", O_WRONLY | O_CLOEXEC);
}

void reseed(int fd, const struct agent_resume *resume)
{
	/* a pool that is not ready yet has no keys that could be the same */
	if (write(fd, resume, sizeof(*resume)) < 0 ||
	    (ioctl(fd, RNDRESEEDCRNG) && errno != ENODATA))
		log_warn("random numbers: %s", strerror(errno));
}
