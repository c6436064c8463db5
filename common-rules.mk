# SPDX-License-Identifier: GPL-2.0-or-later
# What every folder's Makefile.am begins with.
AM_CPPFLAGS = -I$(top_srcdir) -I$(top_builddir)
AM_CFLAGS = $(SF_CFLAGS)
COMMON = $(top_builddir)/common/libsfcommon.la
LINK_LA = $(top_builddir)/common/libsflink.la
