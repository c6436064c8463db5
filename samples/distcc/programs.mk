# SPDX-License-Identifier: LGPL-2.1-or-later
# In the VM: the programs that come with zlib, as objects; infcover.c is not for outside of zlib.
objects = $(patsubst %.c,%.o,$(filter-out infcover.c,$(wildcard *.c)))
CFLAGS = -O3

all: $(objects)
%.o: %.c
	$(CC) $(CFLAGS) -c $< -o $@
clean:
	rm -f $(objects)
.PHONY: all clean
