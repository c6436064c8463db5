/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hexadecimal by libsodium. */
#include "host/sfd/hex.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

void hex_print(const uint8_t *bytes, size_t len, char *text)
{
	sodium_bin2hex(text, 2 * len + 1, bytes, len);
}

int hex_parse(const char *text, uint8_t *bytes, size_t len)
{
	size_t got;

	if (strlen(text) != 2 * len ||
	    sodium_hex2bin(bytes, len, text, 2 * len, NULL, &got, NULL) || got != len)
		return -EINVAL;
	return 0;
}
