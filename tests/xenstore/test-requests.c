/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each request of the XenStore protocol: what it does, and each of its errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

static void test_read_and_write(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(PUT(&g, 0, "a\0value"), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "value");
	CU_ASSERT_EQUAL(g.head.len, 5);
	IS(ASK(&g, 0, XS_READ, HOME "/a"), "value");
	IS(PUT(&g, 0, HOME "/b/c/d\0deep"), "OK");
	IS(ASK(&g, 0, XS_READ, "b/c/d"), "deep");
	IS(ASK(&g, 0, XS_READ, "b/c"), "");
	/* any bytes, also none */
	IS(PUT(&g, 0, "a\0x\0y\xff"), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "x");
	CU_ASSERT_EQUAL(g.head.len, 4);
	IS(PUT(&g, 0, "a\0"), "OK");
	ASK(&g, 0, XS_READ, "a");
	CU_ASSERT_EQUAL(g.head.len, 0);
	CU_ASSERT_EQUAL(g.head.type, XS_READ);
	guest_stop(&g);
}

static void test_read_and_write_errors(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(ASK(&g, 0, XS_READ, "none"), "ENOENT");
	CU_ASSERT_EQUAL(g.head.type, XS_ERROR);
	IS(ASK(&g, 0, XS_READ, "none/below"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "two\0strings"), "EINVAL");
	IS(guest_ask(&g, 0, XS_READ, "unended", 7), "EINVAL");
	IS(guest_ask(&g, 0, XS_READ, "", 0), "EINVAL");
	IS(guest_ask(&g, 0, XS_WRITE, "unended", 7), "EINVAL");
	IS(guest_ask(&g, 0, XS_WRITE, "", 0), "EINVAL");
	IS(PUT(&g, 0, "/elsewhere\0x"), "EACCES");
	IS(PUT(&g, 0, "/local/domain/6/a\0x"), "EACCES");
	IS(PUT(&g, 0, "/\0x"), "EACCES");
	guest_stop(&g);
}

static void test_names(void)
{
	static const char *const bad[] = { "", "a//b", "a/", "//", "/a/", "a b", "a.b", "ä", "@event",
					   "a%", "~" };
	static const char *const good[] = { "a", "A-Z_0", "x@y", "0", "-", "a/b/c" };
	struct guest g;

	guest_start(&g, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		IS(guest_ask(&g, 0, XS_MKDIR, bad[i], strlen(bad[i]) + 1), "EINVAL");
		IS(guest_ask(&g, 0, XS_READ, bad[i], strlen(bad[i]) + 1), "EINVAL");
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		IS(guest_ask(&g, 0, XS_MKDIR, good[i], strlen(good[i]) + 1), "OK");
	guest_stop(&g);
}

static void test_longest_names(void)
{
	char path[XENSTORE_ABS_PATH_MAX + 2] = "/";
	struct guest g;

	guest_start(&g, NULL);
	memset(path, 'x', XENSTORE_REL_PATH_MAX);
	IS(guest_ask(&g, 0, XS_MKDIR, path, XENSTORE_REL_PATH_MAX + 1), "OK");
	IS(guest_ask(&g, 0, XS_READ, path, XENSTORE_REL_PATH_MAX + 1), "");
	path[XENSTORE_REL_PATH_MAX] = 'x';
	IS(guest_ask(&g, 0, XS_MKDIR, path, XENSTORE_REL_PATH_MAX + 2), "EINVAL");
	memset(path + 1, 'x', XENSTORE_ABS_PATH_MAX);
	path[0] = '/';
	path[XENSTORE_ABS_PATH_MAX] = '\0';
	IS(guest_ask(&g, 0, XS_READ, path, XENSTORE_ABS_PATH_MAX + 1), "ENOENT");
	path[XENSTORE_ABS_PATH_MAX] = 'x';
	path[XENSTORE_ABS_PATH_MAX + 1] = '\0';
	IS(guest_ask(&g, 0, XS_READ, path, XENSTORE_ABS_PATH_MAX + 2), "EINVAL");
	guest_stop(&g);
}

static void test_mkdir(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(ASK(&g, 0, XS_MKDIR, "a/b"), "OK");
	IS(ASK(&g, 0, XS_READ, "a/b"), "");
	PUT(&g, 0, "a\0kept");
	IS(ASK(&g, 0, XS_MKDIR, "a"), "OK");
	IS(ASK(&g, 0, XS_READ, "a"), "kept");
	IS(ASK(&g, 0, XS_MKDIR, "/new"), "EACCES");
	IS(guest_ask(&g, 0, XS_MKDIR, "x", 1), "EINVAL");
	guest_stop(&g);
}

static void test_rm(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a/b/c\0x");
	IS(ASK(&g, 0, XS_RM, "a/b"), "OK");
	IS(ASK(&g, 0, XS_READ, "a/b/c"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "a/b"), "ENOENT");
	IS(ASK(&g, 0, XS_READ, "a"), "");
	IS(ASK(&g, 0, XS_RM, "a/b"), "OK");	/* not there, but its parent is */
	IS(ASK(&g, 0, XS_RM, "a/b/c"), "ENOENT");
	IS(ASK(&g, 0, XS_RM, "/"), "EACCES");
	IS(ASK(&g, 0, XS_RM, "/local"), "EACCES");
	IS(ASK(&g, 0, XS_RM, HOME), "EACCES");
	IS(ASK(&g, 0, XS_RM, "/elsewhere"), "EACCES");
	IS(guest_ask(&g, 0, XS_RM, "a", 1), "EINVAL");
	guest_stop(&g);
}

static void test_rm_spares_what_is_the_hosts(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "mine/dir\0x");
	CU_ASSERT_EQUAL(xs_host_write(g.xs, "mine/dir/yours", "x", false), 0);
	IS(ASK(&g, 0, XS_RM, "mine"), "EACCES");
	IS(ASK(&g, 0, XS_RM, "mine/dir/yours"), "EACCES");
	IS(ASK(&g, 0, XS_READ, "mine/dir/yours"), "x");
	CU_ASSERT_EQUAL(xs_host_remove(g.xs, "mine/dir/yours"), 0);
	IS(ASK(&g, 0, XS_RM, "mine"), "OK");
	guest_stop(&g);
}

/* Return: the payload's strings with a space behind each. */
static const char *list(const struct guest *g)
{
	static char text[sizeof(g->payload)];

	memcpy(text, g->payload, g->head.len + 1);
	for (unsigned i = 0; i < g->head.len; i++)
		if (!text[i])
			text[i] = ' ';
	return text;
}

static void test_directory(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "d/b\0");
	PUT(&g, 0, "d/10\0");
	PUT(&g, 0, "d/9\0");
	PUT(&g, 0, "d/a/x\0");
	ASK(&g, 0, XS_DIRECTORY, "d");
	IS(list(&g), "9 10 a b ");
	ASK(&g, 0, XS_DIRECTORY, "d/b");
	CU_ASSERT_EQUAL(g.head.len, 0);
	ASK(&g, 0, XS_DIRECTORY, "/");
	IS(list(&g), "local ");
	IS(ASK(&g, 0, XS_DIRECTORY, "none"), "ENOENT");
	IS(guest_ask(&g, 0, XS_DIRECTORY, "d", 1), "EINVAL");
	guest_stop(&g);
}

/* Asks for one part. Return: the names in it, with a space behind each. */
static const char *part(struct guest *g, unsigned offset, char generation[24])
{
	char request[64];
	int len = sprintf(request, "d%c%u", 0, offset);
	size_t skip;

	guest_ask(g, 0, XS_DIRECTORY_PART, request, (size_t)len + 1);
	skip = strlen(g->payload) + 1;
	if (g->head.type == XS_ERROR || skip > 24)
		return g->payload;
	strcpy(generation, g->payload);
	return list(g) + skip;
}

static void test_directory_in_parts(void)
{
	char path[128], all[16384] = "", first[24], generation[24];
	unsigned offset = 0, parts = 0;
	struct guest g;

	guest_start(&g, NULL);
	for (int i = 0; i < 200; i++) {
		int len = sprintf(path, "d/%040d", i);

		guest_ask(&g, 0, XS_WRITE, path, (size_t)len + 1);
	}
	IS(ASK(&g, 0, XS_DIRECTORY, "d"), "E2BIG");
	part(&g, 0, first);
	for (bool end = false; !end; parts++) {
		const char *names = part(&g, offset, generation);
		size_t len = strlen(names);

		IS(generation, first);
		end = len >= 1 && names[len - 1] == ' ' && (len == 1 || names[len - 2] == ' ');
		strcat(all, names);
		offset += (unsigned)(end ? len - 1 : len);
		CU_ASSERT_FATAL(parts < 10);
	}
	CU_ASSERT_EQUAL(parts, 3);
	CU_ASSERT_EQUAL(offset, 200 * 41);
	for (int i = 0; i < 200; i++) {
		sprintf(path, "%040d ", i);
		CU_ASSERT(!memcmp(all + i * 41, path, 41));
	}
	IS(part(&g, 100000, generation), " ");
	PUT(&g, 0, "d/new\0");
	part(&g, 0, generation);
	CU_ASSERT_STRING_NOT_EQUAL(generation, first);
	IS(ASK(&g, 0, XS_DIRECTORY_PART, "d"), "EINVAL");
	IS(ASK(&g, 0, XS_DIRECTORY_PART, "d\0x"), "EINVAL");
	IS(ASK(&g, 0, XS_DIRECTORY_PART, "d\0-1"), "EINVAL");
	IS(ASK(&g, 0, XS_DIRECTORY_PART, "none\0" "0"), "ENOENT");
	guest_stop(&g);
}

static void test_permissions(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0x");
	ASK(&g, 0, XS_GET_PERMS, "a");
	IS(list(&g), "n5 ");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0b5\0r3\0w4\0n65535"), "OK");
	ASK(&g, 0, XS_GET_PERMS, "a");
	IS(list(&g), "b5 r3 w4 n65535 ");
	PUT(&g, 0, "a/below\0x");
	ASK(&g, 0, XS_GET_PERMS, "a/below");
	IS(list(&g), "b5 r3 w4 n65535 ");
	ASK(&g, 0, XS_GET_PERMS, "/");
	IS(list(&g), "n0 r5 ");
	guest_stop(&g);
}

static void test_permission_errors(void)
{
	struct guest g;

	guest_start(&g, NULL);
	PUT(&g, 0, "a\0x");
	xs_host_write(g.xs, "host", "x", false);
	IS(ASK(&g, 0, XS_GET_PERMS, "none"), "ENOENT");
	IS(ASK(&g, 0, XS_GET_PERMS, "@releaseDomain"), "EACCES");
	IS(ASK(&g, 0, XS_SET_PERMS, "@releaseDomain\0n5"), "EACCES");
	IS(ASK(&g, 0, XS_SET_PERMS, "none\0n5"), "ENOENT");
	IS(ASK(&g, 0, XS_SET_PERMS, "a"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0x5"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n5x"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n65536"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n-5"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0"), "EINVAL");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n6"), "EPERM");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n0"), "EPERM");
	IS(ASK(&g, 0, XS_SET_PERMS, "host\0n5"), "EACCES");
	IS(ASK(&g, 0, XS_SET_PERMS, "a\0n5\0r1\0r2\0r3\0r4\0r6"), "ENOSPC");
	guest_stop(&g);
}

static void test_domains(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(ASK(&g, 0, XS_GET_DOMAIN_PATH, "5"), HOME);
	IS(ASK(&g, 0, XS_GET_DOMAIN_PATH, "0123"), "/local/domain/123");
	IS(ASK(&g, 0, XS_GET_DOMAIN_PATH, "x"), "EINVAL");
	IS(ASK(&g, 0, XS_GET_DOMAIN_PATH, "65536"), "EINVAL");
	IS(guest_ask(&g, 0, XS_GET_DOMAIN_PATH, "5", 1), "EINVAL");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "5"), "T");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "0"), "T");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "32752"), "T");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "6"), "F");
	IS(ASK(&g, 0, XS_IS_DOMAIN_INTRODUCED, "-1"), "EINVAL");
	guest_stop(&g);
}

static void test_what_is_not_for_guests(void)
{
	struct guest g;

	guest_start(&g, NULL);
	IS(ASK(&g, 0, XS_CONTROL, "check"), "EACCES");
	IS(ASK(&g, 0, XS_INTRODUCE, "6\0" "1\0" "1"), "EACCES");
	IS(ASK(&g, 0, XS_RELEASE, "6"), "EACCES");
	IS(ASK(&g, 0, XS_RESUME, "6"), "EACCES");
	IS(ASK(&g, 0, XS_SET_TARGET, "6\0" "7"), "EACCES");
	IS(ASK(&g, 0, XS_WATCH_EVENT, "a\0t"), "ENOSYS");
	IS(ASK(&g, 0, XS_ERROR, "EIO"), "ENOSYS");
	IS(ASK(&g, 0, 20, ""), "ENOSYS");	/* was RESTRICT */
	IS(ASK(&g, 0, 23, ""), "ENOSYS");	/* GET_FEATURE of newer Xens */
	IS(ASK(&g, 0, XS_INVALID, ""), "ENOSYS");
	IS(ASK(&g, 0, UINT32_MAX, ""), "ENOSYS");
	guest_stop(&g);
}

static void test_unknown_transaction(void)
{
	static const uint32_t types[] = { XS_READ, XS_WRITE, XS_DIRECTORY, XS_MKDIR, XS_RM,
					  XS_GET_PERMS, XS_TRANSACTION_START };
	struct guest g;

	guest_start(&g, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		IS(ASK(&g, 77, types[i], "a"), "ENOENT");
	IS(ASK(&g, 77, XS_WATCH, "a\0t"), "OK");	/* where it means nothing */
	guest_stop(&g);
}

static void test_bytes_one_by_one(void)
{
	struct xsd_sockmsg heads[] = { { .type = XS_WRITE, .req_id = 1, .len = 3 },
				       { .type = XS_READ, .req_id = 2, .len = 2 } };
	char stream[2 * sizeof(*heads) + 5];
	struct guest g;

	guest_start(&g, NULL);
	memcpy(stream, heads, sizeof(*heads));
	memcpy(stream + sizeof(*heads), "a\0x", 3);
	memcpy(stream + sizeof(*heads) + 3, heads + 1, sizeof(*heads));
	memcpy(stream + 2 * sizeof(*heads) + 3, "a", 2);
	for (size_t i = 0; i < sizeof(stream); i++) {
		CU_ASSERT_EQUAL(xs_at_boundary(g.xs), i == 0 || i == sizeof(*heads) + 3);
		CU_ASSERT_EQUAL(xs_input(g.xs, stream + i, 1), 0);
	}
	CU_ASSERT(xs_at_boundary(g.xs));
	IS(g.payload, "x");
	CU_ASSERT_EQUAL(g.head.req_id, 2);
	/* … and all at once */
	g.answered = false;
	CU_ASSERT_EQUAL(xs_input(g.xs, stream, sizeof(stream)), 0);
	IS(g.payload, "x");
	CU_ASSERT_EQUAL(xs_received(g.xs), 2 * sizeof(stream));
	CU_ASSERT_EQUAL(xs_sent(g.xs), g.bytes);
	guest_stop(&g);
}

static void test_malformed_stream(void)
{
	struct xsd_sockmsg head = { .type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1 };
	struct guest g;

	guest_start(&g, NULL);
	CU_ASSERT_EQUAL(xs_input(g.xs, &head, sizeof(head)), -EPROTO);
	head.len = 0;
	CU_ASSERT_EQUAL(xs_input(g.xs, &head, sizeof(head)), -EPROTO);
	CU_ASSERT_EQUAL(g.bytes, 0);
	guest_stop(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "read and write", test_read_and_write },
		{ "errors of read and write", test_read_and_write_errors },
		{ "names", test_names },
		{ "the longest names", test_longest_names },
		{ "mkdir", test_mkdir },
		{ "rm", test_rm },
		{ "rm spares what is the host's", test_rm_spares_what_is_the_hosts },
		{ "directory", test_directory },
		{ "directory in parts", test_directory_in_parts },
		{ "permissions", test_permissions },
		{ "errors of permissions", test_permission_errors },
		{ "domains", test_domains },
		{ "what is not for guests", test_what_is_not_for_guests },
		{ "unknown transaction", test_unknown_transaction },
		{ "bytes one by one", test_bytes_one_by_one },
		{ "malformed stream", test_malformed_stream },
		CU_TEST_INFO_NULL,
	};

	return run_tests("requests", tests);
}
