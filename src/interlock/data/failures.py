"""Errors of the engines as callers should see them."""

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from interlock.data.unit import Conflict
from interlock.errors import DeadlineExceeded, Error, Unavailable

_CONFLICTS = frozenset(("40001", "40P01"))  # serialization_failure, deadlock_detected
_TIMEOUTS = frozenset(("57014",))  # query_canceled: the statement took longer than it may
_CLASSES_AWAY = ("08", "53", "57")  # connection exception, insufficient resources, operator intervention
_LOCKED = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED


def translated(error: SQLAlchemyError | OSError) -> Error | None:
    """Return what `error` means to a caller: a Conflict, or that the database is away; None if it says neither."""
    if isinstance(error, DBAPIError):
        return _of_driver(error)
    if isinstance(error, PoolTimeout):
        return Unavailable("the database is busy")
    return Unavailable("the database does not answer") if isinstance(error, OSError) else None


def _of_driver(error: DBAPIError) -> Error | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in _CONFLICTS:
        return Conflict("another transaction changed the same thing at the same time")
    if state in _TIMEOUTS:
        return DeadlineExceeded("a statement took too long")
    if error.connection_invalidated or state.startswith(_CLASSES_AWAY):
        return Unavailable("the database does not answer")
    number = getattr(error.orig, "sqlite_errorcode", None)
    return Unavailable("the database is busy") if number is not None and number & 0xFF in _LOCKED else None
