/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keys and numbers as hexadecimal text in JSON. */
#ifndef HOST_SFD_HEX_H
#define HOST_SFD_HEX_H

#include <stddef.h>
#include <stdint.h>

/* `text` gets 2 * len digits and a zero byte. */
void hex_print(const uint8_t *bytes, size_t len, char *text);

/* Return: 0, or -EINVAL unless `text` is exactly 2 * len hexadecimal digits. */
int hex_parse(const char *text, uint8_t *bytes, size_t len);

#endif
