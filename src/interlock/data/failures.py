"""Errors of the engines as callers should see them."""

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from interlock.data.unit import Conflict
from interlock.errors import DeadlineExceeded, Error, Unavailable

_CONFLICTS = frozenset(("40001", "40P01"))  # serialization_failure, deadlock_detected
_TIMEOUTS = frozenset(("57014",))  # query_canceled: the statement took longer than it may
_CLASSES_AWAY = ("08", "53", "57")  # connection exception, insufficient resources, operator intervention
_DISK_FULL = "53100"
_LOCKED = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
_DISK = (10, 13)  # SQLITE_IOERR, SQLITE_FULL
_NO_ROOM = "the database's disk is full or fails"


class NoRoom(Unavailable):
    """The database's disk is full or fails: it may answer, and stores nothing."""


def translated(error: BaseException) -> Error | None:
    """Return what an engine's or a driver's `error` means to a caller; None if it says nothing of that kind."""
    if isinstance(error, PoolTimeout):
        return Unavailable("the database is busy")
    if isinstance(error, OSError):
        return Unavailable("the database does not answer")
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return Unavailable("the database does not answer")
        return _of_driver(error.orig)
    return _of_driver(error)


def _of_driver(error: BaseException | None) -> Error | None:
    state = getattr(error, "sqlstate", None) or ""
    if state in _CONFLICTS:
        return Conflict("another transaction changed the same thing at the same time")
    if state in _TIMEOUTS:
        return DeadlineExceeded("a statement took too long")
    if state == _DISK_FULL:
        return NoRoom(_NO_ROOM)
    if state.startswith(_CLASSES_AWAY):
        return Unavailable("the database does not answer")
    return _of_sqlite(getattr(error, "sqlite_errorcode", 0) & 0xFF)


def _of_sqlite(number: int) -> Error | None:
    if number in _LOCKED:
        return Unavailable("the database is busy")
    return NoRoom(_NO_ROOM) if number in _DISK else None
