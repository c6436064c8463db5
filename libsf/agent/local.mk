# SPDX-License-Identifier: LGPL-2.1-or-later
# The guest agent; included by libsf/Makefile.am.
