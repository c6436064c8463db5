/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A clone's side of results: what it hands to its agent. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "common/cleanup.h"
#include "common/io.h"
#include "libsf/internal.h"
#include "libsf/sf.h"
#include "proto/agent-port.h"
#include "proto/agent-socket.h"

static int check_size(uint64_t bytes)
{
	if (bytes <= AGENT_MAX_RESULT)
		return 0;
	return lsf_fail(EFBIG, "a result of %llu bytes: at most %llu can be sent",
			(unsigned long long)bytes, (unsigned long long)AGENT_MAX_RESULT);
}

static int must_be_clone(void)
{
	int id = sf_id();

	if (id)
		return id < 0 ? -1 : 0;
	return lsf_fail(EPERM, "this VM is no clone: it has nobody to send a result to");
}

int sf_set_result(const void *data, size_t len)
{
	_cleanup_fd_ int fd = -1;
	int rc;

	if (check_size(len) || must_be_clone())
		return -1;
	fd = memfd_create("sf-result", MFD_CLOEXEC);
	if (fd < 0)
		return lsf_fail(errno, "no memory file for the result: %s", strerror(errno));
	rc = io_write_full(fd, data, len);
	if (rc < 0)
		return lsf_fail(-rc, "no room for the result: %s", strerror(-rc));
	return lsf_agent_ask(AGENT_SOCK_RESULT, len, fd, -1);
}

int sf_set_result_fd(int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		return lsf_fail(errno, "the result's file: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return lsf_fail(EINVAL, "the result is neither a regular file nor a memfd");
	if (check_size((uint64_t)st.st_size) || must_be_clone())
		return -1;
	return lsf_agent_ask(AGENT_SOCK_RESULT, (uint64_t)st.st_size, fd, -1);
}
