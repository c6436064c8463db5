/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One long session of libxenstore, in the middle of which its server is replaced by a clone's.
 *
 * It prints "now" when that is to happen and goes on after a line of input. The test gives domain 9
 * to the clone and has the host write "domid".
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>

#include "common/cleanup.h"

#define CHECK(true_thing)                                                                  \
	do {                                                                               \
		if (!(true_thing)) {                                                       \
			fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__,    \
				#true_thing, strerror(errno));                             \
			exit(1);                                                           \
		}                                                                          \
	} while (0)

static bool put(struct xs_handle *h, xs_transaction_t t, const char *path, const char *value)
{
	return xs_write(h, t, path, value, (unsigned)strlen(value));
}

static bool holds(struct xs_handle *h, xs_transaction_t t, const char *path, const char *value)
{
	_cleanup_free_ char *got = xs_read(h, t, path, NULL);

	return got && !strcmp(got, value);
}

/* Waits for the next event. Return: true if it is this one. */
static bool fires(struct xs_handle *h, const char *path, const char *token)
{
	unsigned count;
	_cleanup_free_ char **event = xs_read_watch(h, &count);

	if (!event)
		return false;
	if (strcmp(event[XS_WATCH_PATH], path) || strcmp(event[XS_WATCH_TOKEN], token)) {
		fprintf(stderr, "event %s of %s\n", event[XS_WATCH_PATH], event[XS_WATCH_TOKEN]);
		return false;
	}
	return true;
}

static void try_transactions(struct xs_handle *h)
{
	xs_transaction_t t, u;

	/* Unseen outside until the end; gone if it is given up. */
	CHECK((t = xs_transaction_start(h)));
	CHECK(put(h, t, "ta/a", "1"));
	CHECK(holds(h, t, "ta/a", "1"));
	CHECK(!xs_read(h, XBT_NULL, "ta/a", NULL) && errno == ENOENT);
	CHECK(xs_transaction_end(h, t, true));
	CHECK(!xs_read(h, XBT_NULL, "ta/a", NULL) && errno == ENOENT);

	CHECK((t = xs_transaction_start(h)));
	CHECK(put(h, t, "ta/a", "1"));
	CHECK(xs_transaction_end(h, t, false));
	CHECK(holds(h, XBT_NULL, "ta/a", "1"));

	/* Two that add to the same number: the second has to try again. */
	CHECK((t = xs_transaction_start(h)));
	CHECK((u = xs_transaction_start(h)));
	CHECK(holds(h, t, "ta/a", "1") && put(h, t, "ta/a", "2"));
	CHECK(holds(h, u, "ta/a", "1") && put(h, u, "ta/a", "2"));
	CHECK(xs_transaction_end(h, t, false));
	CHECK(!xs_transaction_end(h, u, false) && errno == EAGAIN);

	/* Two that have nothing to do with each other both succeed. */
	CHECK(put(h, XBT_NULL, "ta/b", "1"));
	CHECK((t = xs_transaction_start(h)));
	CHECK((u = xs_transaction_start(h)));
	CHECK(put(h, t, "ta/a", "3") && put(h, u, "ta/b", "3"));
	CHECK(xs_transaction_end(h, t, false) && xs_transaction_end(h, u, false));
	CHECK(holds(h, XBT_NULL, "ta/a", "3") && holds(h, XBT_NULL, "ta/b", "3"));
}

static void be_cloned(void)
{
	char line[16];

	puts("now");
	fflush(stdout);
	CHECK(fgets(line, sizeof(line), stdin));
}

static void try_clone(struct xs_handle *h)
{
	xs_transaction_t kept, spoilt;

	CHECK(put(h, XBT_NULL, "shared", "0"));
	CHECK(xs_watch(h, "domid", "relative") && fires(h, "domid", "relative"));
	CHECK(xs_watch(h, "/local/domain/7/domid", "absolute"));
	CHECK(fires(h, "/local/domain/7/domid", "absolute"));
	CHECK((kept = xs_transaction_start(h)));
	CHECK(put(h, kept, "mine/a", "kept"));
	CHECK((spoilt = xs_transaction_start(h)));
	CHECK(holds(h, spoilt, "shared", "0") && put(h, spoilt, "mine/b", "spoilt"));
	CHECK(put(h, XBT_NULL, "shared", "1"));
	CHECK(put(h, XBT_NULL, "before", "here"));

	be_cloned();

	/* The host wrote domid, on which both watches are: the absolute one moved. */
	CHECK(fires(h, "domid", "relative"));
	CHECK(fires(h, "/local/domain/9/domid", "absolute"));
	CHECK(holds(h, XBT_NULL, "domid", "9"));
	CHECK(holds(h, XBT_NULL, "/local/domain/9/before", "here"));
	CHECK(!xs_read(h, XBT_NULL, "/local/domain/7/before", NULL));
	CHECK(holds(h, kept, "mine/a", "kept"));
	CHECK(put(h, kept, "mine/c", "more"));
	CHECK(xs_transaction_end(h, kept, true));
	CHECK(!xs_transaction_end(h, spoilt, false) && errno == EAGAIN);
	CHECK(xs_unwatch(h, "domid", "relative"));
	CHECK(xs_unwatch(h, "/local/domain/9/domid", "absolute"));
}

/* A transaction that did not look at what the host changed is committed by the clone. */
static void try_commit_in_clone(struct xs_handle *h)
{
	xs_transaction_t t;

	CHECK(xs_mkdir(h, XBT_NULL, "quiet"));
	CHECK((t = xs_transaction_start(h)));
	CHECK(put(h, t, "quiet/a", "1"));
	be_cloned();
	CHECK(put(h, t, "quiet/b", "2"));
	CHECK(xs_transaction_end(h, t, false));
	CHECK(holds(h, XBT_NULL, "quiet/a", "1") && holds(h, XBT_NULL, "quiet/b", "2"));
}

static void try_the_rest(struct xs_handle *h)
{
	_cleanup_free_ char *home = xs_get_domain_path(h, 12);
	struct xs_permissions perms[] = { { .id = 7 }, { .id = 0, .perms = XS_PERM_READ } };
	unsigned count;

	CHECK(home && !strcmp(home, "/local/domain/12"));
	CHECK(xs_is_domain_introduced(h, 7) && !xs_is_domain_introduced(h, 8));
	CHECK(put(h, XBT_NULL, "perms", ""));
	CHECK(xs_set_permissions(h, XBT_NULL, "perms", perms, 2));
	struct xs_permissions *got = xs_get_permissions(h, XBT_NULL, "perms", &count);
	CHECK(got && count == 2 && got[1].perms == XS_PERM_READ && !got[1].id);
	free(got);
	CHECK(xs_watch(h, "@releaseDomain", "r") && fires(h, "@releaseDomain", "r"));
	CHECK(xs_watch(h, "@introduceDomain", "i") && fires(h, "@introduceDomain", "i"));
	CHECK(!xs_watch(h, "@introduceDomain", "i") && errno == EEXIST);
	CHECK(xs_unwatch(h, "@releaseDomain", "r") && xs_unwatch(h, "@introduceDomain", "i"));
	CHECK(!xs_unwatch(h, "@introduceDomain", "i") && errno == ENOENT);
	CHECK(!xs_introduce_domain(h, 8, 1, 1) && errno == EACCES);
}

int main(void)
{
	struct xs_handle *h = xs_open(0);

	CHECK(h);
	try_the_rest(h);
	try_transactions(h);
	try_clone(h);
	try_commit_in_clone(h);
	xs_close(h);
	return 0;
}
