/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errno names as they go over the wire: numbers differ between systems, names do not. */
#include <errno.h>
#include <string.h>

#include "common/cleanup.h"
#include "common/link.h"

/* Every errno that a part of the system gives an account of; EIO stands for all others. */
#define ERRNO_NAMES(X)                                                                         \
	X(EPERM) X(ENOENT) X(ESRCH) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(ENOEXEC) X(EBADF)      \
	X(ECHILD) X(EAGAIN) X(ENOMEM) X(EACCES) X(EFAULT) X(EBUSY) X(EEXIST) X(EXDEV)          \
	X(ENODEV) X(ENOTDIR) X(EISDIR) X(EINVAL) X(ENFILE) X(EMFILE) X(ETXTBSY) X(EFBIG)       \
	X(ENOSPC) X(ESPIPE) X(EROFS) X(EPIPE) X(ERANGE) X(EDEADLK) X(ENAMETOOLONG) X(ENOSYS)   \
	X(ENOTEMPTY) X(ELOOP) X(ENODATA) X(ETIME) X(EPROTO) X(EBADMSG) X(EOVERFLOW) X(EILSEQ)  \
	X(EMSGSIZE) X(EPROTONOSUPPORT) X(ENOTSUP) X(EAFNOSUPPORT) X(EADDRINUSE)                \
	X(EADDRNOTAVAIL) X(ENETDOWN) X(ENETUNREACH) X(ECONNABORTED) X(ECONNRESET) X(ENOBUFS)   \
	X(EISCONN) X(ENOTCONN) X(ESHUTDOWN) X(ETIMEDOUT) X(ECONNREFUSED) X(EHOSTDOWN)          \
	X(EHOSTUNREACH) X(EALREADY) X(EINPROGRESS) X(ESTALE) X(EDQUOT) X(ECANCELED)

static const struct {
	int number;
	const char *name;
} errno_names[] = {
#define ERRNO_ROW(name) { name, #name },
	ERRNO_NAMES(ERRNO_ROW)
#undef ERRNO_ROW
};

const char *link_errno_name(int number)
{
	if (number < 0)
		number = -number;
	for (size_t i = 0; i < ARRAY_SIZE(errno_names); i++) {
		if (errno_names[i].number == number)
			return errno_names[i].name;
	}
	return "EIO";
}

int link_errno_number(const char *name)
{
	for (size_t i = 0; name && i < ARRAY_SIZE(errno_names); i++) {
		if (!strcmp(errno_names[i].name, name))
			return errno_names[i].number;
	}
	return EIO;
}
