# SPDX-License-Identifier: LGPL-2.1-or-later
"""fork() for the virtual machine this program runs in: libsf for Python.

    import snowflock

    me = snowflock.clone(4)             # this VM, and up to four exact copies of it on other hosts
    if me:                              # in a copy: 1, 2, …
        snowflock.set_result(work(me))  # some bytes
        snowflock.exit()
    snowflock.join()                    # in the parent: waits for all of them
    parts = [snowflock.result(i) for i in range(1, snowflock.count() + 1)]

or, where there is a function to be done for many things:

    squares = snowflock.map(lambda x: x * x, range(100), clones=4)

The functions are those of sf.h, which says of each what it promises. Names are without "sf_", and
what is there twice, for sf_clone() and for a ticket, takes the ticket as an argument here. What
fails raises snowflock.Error, an OSError with errno and sentence of libsf. Needs nothing but
libsf.so.0.
"""
import ctypes
import enum
import errno
import os
import pickle
import sys
from typing import Any, Callable, Iterable, List, NamedTuple, NoReturn, Optional

_sf = ctypes.CDLL("libsf.so.0", use_errno=True)
_libc = ctypes.CDLL(None)
_ADDRESS_BYTES = 46


class _Hints(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("vcpus", ctypes.c_uint), ("per_host", ctypes.c_uint),
                ("min", ctypes.c_uint)]


class _Status(ctypes.Structure):
    _fields_ = [("state", ctypes.c_int), ("status", ctypes.c_int), ("result_bytes", ctypes.c_int64),
                ("host", ctypes.c_char * 64), ("reason", ctypes.c_char * 256),
                ("reserved", ctypes.c_uint64 * 8)]


_int, _uint, _size = ctypes.c_int, ctypes.c_uint, ctypes.c_size_t
_HANDLER = ctypes.CFUNCTYPE(None)
_FUNCTIONS = {  # name: what it returns, what it takes
    "sf_clone": (_int, [_uint]),
    "sf_join": (_int, []),
    "sf_exit": (None, [_int]),
    "sf_id": (_int, []),
    "sf_count": (_int, []),
    "sf_address": (_int, [_uint, ctypes.c_char_p, _size]),
    "sf_set_result": (_int, [ctypes.c_char_p, _size]),
    "sf_result": (ctypes.c_void_p, [_uint, ctypes.POINTER(_size)]),
    "sf_status": (_int, [_uint, ctypes.POINTER(_Status)]),
    "sf_request_ticket": (_int, [_uint, ctypes.POINTER(_Hints)]),
    "sf_ticket_granted": (_int, [_int]),
    "sf_last_ticket": (_int, []),
    "sf_ticket_free": (_int, [_int]),
    "sf_clone_ticket": (_int, [_int]),
    "sf_join_ticket": (_int, [_int]),
    "sf_wait_any": (_int, [_int, _int]),
    "sf_kill_ticket": (_int, [_int]),
    "sf_status_ticket": (_int, [_int, _uint, ctypes.POINTER(_Status)]),
    "sf_result_ticket": (ctypes.c_void_p, [_int, _uint, ctypes.POINTER(_size)]),
    "sf_address_ticket": (_int, [_int, _uint, ctypes.c_char_p, _size]),
    "sf_checkpoint_parent": (_int, [ctypes.POINTER(_int)]),
    "sf_checkpoint_free": (_int, [_int]),
    "sf_create_clones": (_int, [_int, _int]),
    "sf_atclone": (_int, [ctypes.c_void_p] * 3),
    "sf_error": (ctypes.c_char_p, []),
    "sf_version": (ctypes.c_char_p, []),
}
for _name, (_returns, _takes) in _FUNCTIONS.items():
    _function = getattr(_sf, _name)
    _function.restype, _function.argtypes = _returns, _takes
_libc.free.argtypes = [ctypes.c_void_p]


class Error(OSError):
    """A call of libsf failed: errno says why, strerror says it in a sentence."""


class CloneError(RuntimeError):
    """A clone of map() did not bring its results."""


class State(enum.IntEnum):
    """How a clone is. From EXITED on it stays so."""

    STARTING = 0
    RUNNING = 1
    EXITED = 2
    KILLED = 3
    LOST = 4
    FAILED = 5


class Status(NamedTuple):
    """How a clone is, or ended."""

    state: State
    status: int  # 0–255 if it exited, else -1
    result_bytes: int  # of its result; -1: none
    host: str  # where it runs or ran
    reason: str  # a sentence, if it did not exit


def _fail() -> NoReturn:
    number = ctypes.get_errno()
    raise Error(number, _sf.sf_error().decode(errors="replace") or os.strerror(number))


def _checked(value: int) -> int:
    if value < 0:
        _fail()
    return value


def _flush() -> None:
    """What is still in a buffer would be printed by every clone too."""
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.flush()


# ---- The simple way ----


def clone(n: int) -> int:
    """Makes up to n clones of this VM. Returns 0 in the parent and 1…count() in the clones."""
    _flush()
    return _checked(_sf.sf_clone(n))


def join(ticket: Optional[int] = None) -> None:
    """Waits until every clone of the last clone(), or of a ticket, has ended, well or not."""
    _checked(_sf.sf_join() if ticket is None else _sf.sf_join_ticket(ticket))


def exit(status: int = 0) -> NoReturn:
    """Ends this VM, which must be a clone. Neither finally clauses nor atexit functions are run."""
    _flush()
    _sf.sf_exit(status)
    raise AssertionError("sf_exit() came back")


# ---- Who am I ----


def id() -> int:
    """Returns 0 in a VM that was booted, 1… in a clone."""
    return _checked(_sf.sf_id())


def count() -> int:
    """Returns how many clones the last operation made; it asks the host, each time."""
    return _checked(_sf.sf_count())


def address(id: int = 0, ticket: Optional[int] = None) -> str:
    """Returns the address of VM `id` (0: the parent) on the private network."""
    text = ctypes.create_string_buffer(_ADDRESS_BYTES)
    if ticket is None:
        _checked(_sf.sf_address(id, text, len(text)))
    else:
        _checked(_sf.sf_address_ticket(ticket, id, text, len(text)))
    return text.value.decode()


# ---- Results ----


def set_result(data: bytes) -> None:
    """Gives the parent some bytes as this clone's result. The last result given counts."""
    data = bytes(data)
    _checked(_sf.sf_set_result(data, len(data)))


def result(id: int, ticket: Optional[int] = None) -> bytes:
    """Returns the result of clone `id`, which must have exited. Error ENODATA: it gave none."""
    length = _size()
    if ticket is None:
        data = _sf.sf_result(id, ctypes.byref(length))
    else:
        data = _sf.sf_result_ticket(ticket, id, ctypes.byref(length))
    if not data:
        _fail()
    try:
        return ctypes.string_at(data, length.value)
    finally:
        _libc.free(data)


def status(id: int, ticket: Optional[int] = None) -> Status:
    """Returns how clone `id` is."""
    raw = _Status()
    if ticket is None:
        _checked(_sf.sf_status(id, ctypes.byref(raw)))
    else:
        _checked(_sf.sf_status_ticket(ticket, id, ctypes.byref(raw)))
    return Status(State(raw.state), raw.status, raw.result_bytes, raw.host.decode(errors="replace"),
                  raw.reason.decode(errors="replace"))


# ---- Tickets ----


def request_ticket(n: int, vcpus: int = 0, per_host: int = 0, min: int = 0) -> int:
    """Asks for room for up to n clones, ready before they are needed. Returns the ticket."""
    hints = _Hints(ctypes.sizeof(_Hints), vcpus, per_host, min)
    return _checked(_sf.sf_request_ticket(n, ctypes.byref(hints)))


def ticket_granted(ticket: int) -> int:
    """Returns how many clones the ticket is good for."""
    return _checked(_sf.sf_ticket_granted(ticket))


def last_ticket() -> int:
    """Returns the ticket of the VM's last clone operation."""
    return _checked(_sf.sf_last_ticket())


def ticket_free(ticket: int) -> None:
    """Gives back a ticket that is not to be used, or whose clones have all ended."""
    _checked(_sf.sf_ticket_free(ticket))


def clone_ticket(ticket: int) -> int:
    """Clones this VM with a ticket. Returns 0 in the parent and 1…count() in the clones."""
    _flush()
    return _checked(_sf.sf_clone_ticket(ticket))


def wait_any(ticket: int, timeout: Optional[float] = None) -> int:
    """Waits (seconds; None: as long as it takes) until another clone of the ticket has ended.

    Returns its id; 0 when all have ended and were told of. Error ETIMEDOUT: it took longer.
    """
    return _checked(_sf.sf_wait_any(ticket, -1 if timeout is None else int(timeout * 1000)))


def kill_ticket(ticket: int) -> None:
    """Ends what is left of a ticket's clones."""
    _checked(_sf.sf_kill_ticket(ticket))


# ---- Checkpoints ----


class Checkpoint(NamedTuple):
    """Where one is after checkpoint_parent(): the checkpoint's number, and 0 or the clone's id."""

    number: int
    id: int


def checkpoint_parent() -> Checkpoint:
    """Keeps this instant. Comes back once more in every clone that create_clones() makes of it."""
    _flush()
    number = _int()
    me = _checked(_sf.sf_checkpoint_parent(ctypes.byref(number)))
    return Checkpoint(number.value, me)


def checkpoint_free(checkpoint: int) -> None:
    """Gives a checkpoint back."""
    _checked(_sf.sf_checkpoint_free(checkpoint))


def create_clones(checkpoint: int, ticket: int) -> int:
    """Makes clones that begin at a checkpoint. Returns how many."""
    return _checked(_sf.sf_create_clones(checkpoint, ticket))


# ---- And ----

_handlers: List[Any] = []  # what libsf may call must not be freed


def atclone(prepare: Optional[Callable[[], None]] = None,
            parent: Optional[Callable[[], None]] = None,
            child: Optional[Callable[[], None]] = None) -> None:
    """Has functions called around every clone operation of this process."""
    handlers = [_HANDLER(function) if function else None for function in (prepare, parent, child)]
    _handlers.append(handlers)
    _checked(_sf.sf_atclone(*[ctypes.cast(h, ctypes.c_void_p) if h else None for h in handlers]))


def version() -> str:
    """Returns the version of libsf."""
    return _sf.sf_version().decode()


# ---- Many things at once ----


def _work(function: Callable[[Any], Any], things: List[Any], me: int) -> NoReturn:
    """In a clone of map(): does its share and ends."""
    try:
        answer = (True, [function(thing) for thing in things[me - 1::count()]])
    except BaseException as error:
        answer = (False, f"{type(error).__name__}: {error}")
    try:
        set_result(pickle.dumps(answer))
    except BaseException as error:
        print(f"snowflock: clone {me}: {error}", file=sys.stderr)
        exit(1)
    exit(0)


def _collect(me: int, ticket: int) -> List[Any]:
    """In the parent of map(): what clone `me` has found."""
    how = status(me, ticket)
    if how.state != State.EXITED:
        raise CloneError(f"clone {me} on {how.host or 'no host'}: {how.state.name.lower()}: "
                         f"{how.reason}")
    if how.result_bytes < 0:
        raise CloneError(f"clone {me} on {how.host} ended with {how.status} and brought nothing")
    good, answer = pickle.loads(result(me, ticket))
    if not good:
        raise CloneError(f"clone {me} on {how.host}: {answer}")
    return answer


def _gather(things: int, ticket: int,
            progress: Optional[Callable[[int, int], None]]) -> List[Any]:
    """In the parent of map(): what all clones have found, in the order of the things."""
    clones, ended = count(), 0
    answers: List[Any] = [None] * things
    while ended < clones:
        try:
            wait_any(ticket)
        except Error as error:
            if error.errno != errno.EINTR:
                raise
            continue
        ended += 1
        if progress:
            progress(ended, clones)
    for i in range(clones):
        answers[i::clones] = _collect(i + 1, ticket)
    return answers


def map(function: Callable[[Any], Any], things: Iterable[Any], clones: int,
        progress: Optional[Callable[[int, int], None]] = None) -> List[Any]:
    """Returns [function(thing) for thing in things], done in up to so many clones of this VM.

    The clones have function and things in the memory they are born with; only what the function
    returns is sent, and must be something for pickle. Each clone does its share, every clones-th
    thing. progress(ended, clones) is called in the parent when a clone has ended. Raises CloneError
    if a clone did not do its work.
    """
    things = list(things)
    if not things:
        return []
    ticket = request_ticket(min(clones, len(things)))
    try:
        me = clone_ticket(ticket)
    except Error:
        ticket_free(ticket)
        raise
    if me:
        _work(function, things, me)
    try:
        return _gather(len(things), ticket, progress)
    except BaseException:
        kill_ticket(ticket)
        join(ticket)
        raise
    finally:
        ticket_free(ticket)
