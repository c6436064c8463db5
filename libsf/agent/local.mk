# SPDX-License-Identifier: LGPL-2.1-or-later
# The guest agent; included by libsf/Makefile.am.
sbin_PROGRAMS += sf-agent
sf_agent_SOURCES = agent/agent.h agent/arrive.c agent/arrive.h agent/exec.c agent/exec.h \
	agent/frames.c agent/hooks.c agent/hooks.h agent/identity.c agent/identity.h agent/local.c \
	agent/local.h agent/loop.c agent/loop.h agent/main.c agent/module.c agent/module.h \
	agent/netcfg.c agent/netcfg.h agent/port.c agent/port.h agent/quiesce.c agent/reseed.c \
	agent/reseed.h agent/spawn.c agent/spawn.h agent/transfer.c agent/transfer.h agent/vport.c \
	agent/vport.h agent/xsclient.c agent/xsclient.h agent/xsmux.c agent/xsmux.h
sf_agent_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)
# everything is resolved at the start: a clone must not look for symbols page by page
sf_agent_LDFLAGS = -Wl,-z,now
sf_agent_LDADD = $(COMMON)
