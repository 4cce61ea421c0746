"""The service's database: transactions that take events, inbox and answers along, and pages of lists.

The names below are imported when they are first used, so that who only names the room does not pay for SQLAlchemy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.data.database import Database as Database
    from interlock.data.pages import Page as Page
    from interlock.data.tables import join as join
    from interlock.data.transaction import Transaction as Transaction
    from interlock.data.unit import Conflict as Conflict
    from interlock.data.unit import unit_of_work as unit_of_work

_HOME = {
    "Conflict": "unit",
    "Database": "database",
    "Page": "pages",
    "Transaction": "transaction",
    "join": "tables",
    "unit_of_work": "unit",
}

__all__ = ["Conflict", "Database", "Page", "Transaction", "join", "unit_of_work"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'interlock.data' has no attribute {name!r}")
    value = getattr(import_module(f"interlock.data.{home}"), name)
    globals()[name] = value
    return value
