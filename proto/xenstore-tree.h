/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest ↔ sfd through XenStore: where libsf and sfd meet, and what they write there.
 *
 * The byte protocol is Xen's (xen/include/public/io/xs_wire.h, docs/misc/xenstore.txt). Paths below
 * are relative to the VM's home, /local/domain/<domid>, which relative XenStore paths mean anyway;
 * the VM reads its own domid at "domid". Numbers are decimal text.
 *
 * Written by sfd, readable by everyone in the guest, writable by nobody there:
 *
 *   domid                            this VM's domain number
 *   name                             this VM's name, as `sfctl ps` shows it
 *   snowflock/version                "1"
 *   snowflock/id                     "0" in a VM that was booted, 1… in a clone
 *   snowflock/count                  clones made by the operation this VM last took part in
 *   snowflock/limit                  most clones a ticket may have
 *   snowflock/net/base               IPv4 address of ID 0, dotted; ID k has base + k
 *   snowflock/net/prefix             prefix length of the segment
 *   snowflock/net/gateway            dotted
 *   snowflock/net/answer-port        UDP port on which the agent of ID 0 hears clones arrive
 *   snowflock/ticket/<t>/state       SF_TICKET_…
 *   snowflock/ticket/<t>/granted     clones it is good for
 *   snowflock/ticket/<t>/running     clones not ended yet (absent before its clone operation)
 *   snowflock/ticket/<t>/clone/<id>/state    SF_CLONE_…
 *   snowflock/ticket/<t>/clone/<id>/status   wait(2)-like: exit status 0–255, present when exited
 *   snowflock/ticket/<t>/clone/<id>/reason   a sentence, present when lost, killed or failed
 *   snowflock/ticket/<t>/clone/<id>/host     name of the host it ran on
 *   snowflock/ticket/<t>/clone/<id>/result   bytes of its result, present if it set one
 *   snowflock/ticket/<t>/clone/<id>/address  dotted
 *   snowflock/last-ticket            the ticket of the last clone operation
 *
 * Written by the guest: one request per node, at snowflock/request/<key>, where <key> is 1–48 of
 * [A-Za-z0-9-], never used before (libsf: pid, counter, random). sfd removes the node when it has
 * read it, and writes the reply to snowflock/reply/<key>; the guest removes that (the directory
 * snowflock/reply is the guest's). The guest watches snowflock/reply/<key> before it writes the
 * request. A request is one line of words separated by single spaces:
 *
 *   ticket <n> [vcpus=<v>] [per-host=<k>] [min=<k>]   ask for a ticket for up to n clones
 *       reply  ok <ticket> <granted>
 *   clone <ticket>                        clone now
 *       reply  ok <id> <made>             in every VM: 0 in the parent, 1…made in the clones
 *   checkpoint                            keep this instant
 *       reply  ok <checkpoint> <id> <made>    id 0 in the parent; ≥ 1 in each clone made of it
 *   create <checkpoint> <ticket>          clones that begin at a checkpoint
 *       reply  ok <made>
 *   drop <checkpoint>                     forget a checkpoint
 *       reply  ok
 *   kill <ticket>                         end what is left of a ticket's clones
 *       reply  ok
 *   release <ticket>                      a ticket never to be used, or whose clones all ended
 *       reply  ok
 *   joined <ticket>                       the parent is back from sf_join(): for the record alone
 *       reply  (none)
 *   exit <status>                         a clone ends; 0–255; no reply: the VM goes away
 *       reply  (only if refused) error …
 *
 * or, for any of them,   error <ERRNO-NAME> <sentence to the end>.
 *
 * Errno names used: EINVAL (a word out of range, unknown verb), ENOENT (no such ticket or
 * checkpoint), EBUSY (another clone is under way; a ticket in use), ENOSPC (no host has room: not
 * even `min`), ENOTSUP (a clone asks to clone), EPERM (exit in a VM that was booted), EHOSTDOWN
 * (hosts refused or were lost), ETIMEDOUT (the guest's agent did not get quiet), EIO, EDQUOT (too
 * many requests or tickets).
 *
 * In a clone the tree is the parent's at the instant, but for: domid and home, id, count,
 * snowflock/ticket (which holds only the clone's own ticket, with addresses), pending requests
 * other than the one that made it (they are answered error ECANCELED), and no reply node but that
 * of the request that made it. Watches and transactions of every guest process go on.
 */
#ifndef PROTO_XENSTORE_TREE_H
#define PROTO_XENSTORE_TREE_H

#define SF_XS_VERSION "1"
#define SF_XS_ROOT "snowflock"
#define SF_XS_REQUEST SF_XS_ROOT "/request"
#define SF_XS_REPLY SF_XS_ROOT "/reply"
#define SF_XS_TICKET SF_XS_ROOT "/ticket"
#define SF_XS_KEY_MAX 48
#define SF_XS_REQUEST_MAX 256	/* bytes in a request */
#define SF_XS_MAX_PENDING 64	/* requests of a VM under way at once; more: EDQUOT */
#define SF_MAX_CLONES 1024	/* IDs in a ticket */

/* States of a ticket, in order. */
#define SF_TICKET_GRANTED "granted"	/* resources stand ready */
#define SF_TICKET_RUNNING "running"	/* cloned, some clones live */
#define SF_TICKET_DONE "done"		/* every clone ended */

/* States of a clone, in order; one of the last four is its end. */
#define SF_CLONE_STARTING "starting"
#define SF_CLONE_RUNNING "running"
#define SF_CLONE_EXITED "exited"	/* called sf_exit(): has a status; its result is with the parent */
#define SF_CLONE_KILLED "killed"	/* by sf_kill_ticket() or the operator */
#define SF_CLONE_LOST "lost"		/* its host or its VM went away */
#define SF_CLONE_FAILED "failed"	/* never ran */

#endif
