"""The block that opens a transaction or joins the one around it: `async with database.transaction() as tx`."""

import asyncio
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncTransaction

from interlock.data.failures import translated
from interlock.data.transaction import Transaction
from interlock.data.unit import Conflict, Scope, Unit, open_scope, scope, to_end

if TYPE_CHECKING:
    from interlock.data.database import Database


class Block:
    """What `Database.transaction()` returns: `async with` it for a Transaction.

    The outermost block begins and ends a transaction of its own; inside another block, or in a call whose handler is
    one unit, it joins that one, and if it fails only its own part is undone (by a savepoint).
    """

    __slots__ = (
        "_database", "_durable", "_mark", "_read_only", "_savepoint", "_token", "conflicted", "lock", "open", "parent",
        "transaction",
    )  # fmt: skip

    whole_call = False

    def __init__(self, database: "Database", *, read_only: bool, durable: bool) -> None:
        self._database = database
        self._read_only = read_only
        self._durable = durable
        self._savepoint: AsyncTransaction | None = None
        self._token: Token[Scope | None] | None = None
        self._mark = (0, 0, 0)
        self.parent: Scope | None = None
        self.transaction: Transaction | None = None
        self.lock = asyncio.Lock()
        self.open = True
        self.conflicted = False

    async def __aenter__(self) -> Transaction:
        parent = self.parent = open_scope()
        if parent is None:
            transaction = await self._database.begin(read_only=self._read_only, durable=self._durable)
        else:
            await parent.lock.acquire()  # blocks that stand side by side take turns, so that savepoints nest
            try:
                transaction = await self._join(parent)
            except BaseException:
                parent.lock.release()
                raise
        self.transaction = transaction
        self._token = scope.set(self)
        return transaction

    async def _join(self, parent: Scope) -> Transaction:
        transaction = parent.transaction
        if transaction is None:
            assert isinstance(parent, Unit)  # noqa: S101 - a block that is open has a transaction
            return await parent.begin(self._database)
        if transaction.database is not self._database:
            raise RuntimeError("a transaction of another database is open here; the two could not commit together")
        self._mark = transaction.mark
        self._savepoint = await transaction.connection.begin_nested()
        return transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        assert self._token is not None  # noqa: S101 - entered
        with suppress(ValueError):  # a generator closed from another context never saw the token
            scope.reset(self._token)
        shown = translated(error) if isinstance(error, DBAPIError) else None
        if self.parent is None:
            await to_end(self._end(error))
        else:
            try:
                if error is not None or self._savepoint is not None:
                    await to_end(self._leave(self.parent, shown or error))
            finally:
                self.parent.lock.release()
        if shown is not None:
            raise shown from error

    async def _end(self, error: BaseException | None) -> None:
        assert self.transaction is not None  # noqa: S101 - entered
        if error is None:
            await self.transaction.commit()
        else:
            await self.transaction.roll_back()

    async def _leave(self, parent: Scope, error: BaseException | None) -> None:
        """End a joined block; there is nothing to do for a first one that went well, which the unit commits."""
        transaction = self.transaction
        assert transaction is not None  # noqa: S101 - entered
        if isinstance(error, Conflict):
            transaction.conflicted = True
            parent.conflicted = True
        if self._savepoint is None:
            if error is not None:
                assert isinstance(parent, Unit)  # noqa: S101 - as above
                await parent.abandon()
        elif error is None:
            await self._savepoint.commit()
        else:
            transaction.forget(self._mark)
            await self._savepoint.rollback()
