/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What jobs printed, and how they ended, as bytes on their way home. */
#include <string.h>

#include "common/io.h"
#include "libsf/cmd/run.h"

int record_write(int fd, uint32_t job, enum record_kind kind, const void *bytes, size_t len)
{
	struct record record = { .job = job, .kind = kind, .length = (uint32_t)len };
	int rc = io_write_full(fd, &record, sizeof(record));

	return rc ? rc : io_write_full(fd, bytes, len);
}

const void *record_next(const void *data, size_t len, size_t *offset, struct record *record)
{
	const char *bytes = (const char *)data + *offset + sizeof(*record);

	if (*offset > len || len - *offset < sizeof(*record))
		return NULL;
	memcpy(record, (const char *)data + *offset, sizeof(*record));
	if (record->kind < RECORD_STDOUT || record->kind > RECORD_END ||
	    record->length > len - *offset - sizeof(*record) ||
	    (record->kind == RECORD_END && record->length != sizeof(struct record_end)))
		return NULL;
	*offset += sizeof(*record) + record->length;
	return bytes;
}
