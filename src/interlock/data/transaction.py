"""One transaction: its statements, its events, its hooks, and how it ends."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from protobuf import Message
from sqlalchemy import ColumnElement, CursorResult, Executable, Select, TextClause, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from interlock.data.failures import translated
from interlock.data.unit import Conflict
from interlock.errors import Aborted

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.outbox import OutboxRow
    from interlock.data.pages import Page
    from interlock.data.pool import Pool, Pooled
    from interlock.data.wires import Rows, Statement

log = logging.getLogger("interlock.data")

BeforeCommit = Callable[["Transaction"], Awaitable[None]]
AfterCommit = Callable[[], Awaitable[None]]


class Transaction:
    """One open transaction of a database; made by `Database.transaction()`.

    Its methods may be called from several tasks, which then take turns; `connection` itself must not be used by two at
    a time. `conflicted` says that a statement could not be ordered behind another transaction.
    """

    __slots__ = (
        "_after", "_before", "_ended", "_pool", "_pooled", "_ran", "_turn", "_wire", "conflicted", "connection",
        "database", "events",
    )  # fmt: skip

    def __init__(self, database: "Database", pooled: "Pooled", pool: "Pool") -> None:
        self.database = database
        self.connection: AsyncConnection = pooled.connection
        self.conflicted = False
        self.events: list[OutboxRow] = []
        self._ended = False
        self._pooled = pooled
        self._pool = pool
        self._wire = pooled.wire
        self._turn = asyncio.Lock()
        self._before: list[BeforeCommit] = []
        self._ran = 0
        self._after: list[AfterCommit] = []

    async def execute(
        self, statement: Executable | str, parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> CursorResult[Any]:
        """Run a statement (SQLAlchemy's, or SQL text with `:name` parameters) and return its result.

        Conflict if it can't be ordered behind another transaction, Unavailable if the database does not answer;
        SQLAlchemy's own errors otherwise, among them IntegrityError. Catch those around the block, not inside it:
        what stands in the block is undone then, and PostgreSQL takes no further statement in it.
        """
        if isinstance(statement, str):
            statement = _text(statement)
        began = time.perf_counter()
        try:
            async with self._turn:
                return await self.connection.execute(statement, parameters)
        except DBAPIError as error:
            if (shown := translated(error)) is not None:
                self.conflicted |= isinstance(shown, Conflict)
                raise shown from error
            raise
        finally:
            self.database.measure(time.perf_counter() - began, statement)

    async def fetch(self, *statements: "Statement") -> "Rows":
        """Run the chassis' own statements below SQLAlchemy, and return the rows of the last."""
        began = time.perf_counter()
        try:
            async with self._turn:
                return await self._wire.fetch(*statements)
        except Conflict:
            self.conflicted = True
            raise
        finally:
            self.database.measure(time.perf_counter() - began, statements)

    async def store(self, sql: str, rows: "Sequence[Sequence[Any]]") -> None:
        """Run one of the chassis' own statements for each row of values."""
        began = time.perf_counter()
        try:
            async with self._turn:
                await self._wire.store(sql, rows)
        finally:
            self.database.measure(time.perf_counter() - began, sql)

    async def publish(self, event: Message[Any]) -> str:
        """Publish `event` once the transaction commits, and never if it does not; return the event's id."""
        publisher = self.database.publisher
        if publisher is None:
            raise RuntimeError("no publisher: hand the database to its app (App(…, database=database)) to publish")
        return await publisher(self, event)

    async def page(
        self,
        query: Select[Any],
        request: Message[Any],
        *,
        columns: Mapping[str, ColumnElement[Any]],
        key: str,
        order_by: str = "",
        item: type[Message[Any]] | None = None,
        caller: str | None = None,
    ) -> "Page":
        """Return the page of `query` that a list request asks for; `interlock.data.pages` shows how, and says more."""
        from interlock.data.pages import page  # noqa: PLC0415 - it stands on this module

        return await page(self, query, request, columns=columns, key=key, order_by=order_by, item=item, caller=caller)

    def before_commit(self, hook: BeforeCommit) -> None:
        """Run `hook(transaction)` right before the commit, in order; given twice it runs once. Raising rolls back."""
        if hook not in self._before:
            self._before.append(hook)

    def after_commit(self, hook: AfterCommit) -> None:
        """Run `hook()` once the commit is done, in order; given twice it runs once. What it raises is only logged."""
        if hook not in self._after:
            self._after.append(hook)

    def session(self, **options: Any) -> AsyncSession:
        """Return a session of SQLAlchemy in this transaction: `async with tx.session() as session`.

        Its commit and rollback end a savepoint; what it flushed is committed with the transaction, and never without.
        """
        if not self.connection.in_transaction() and (known := self.connection.sync_connection) is not None:
            known.begin()  # in its books alone: else the session would begin the transaction, and end it
        return AsyncSession(self.connection, join_transaction_mode="create_savepoint", **options)

    # --- for blocks and units ---------------------------------------------------------------------------------------

    @property
    def mark(self) -> tuple[int, int, int]:
        """How many hooks and events there are, for `forget`."""
        return len(self._before), len(self._after), len(self.events)

    def forget(self, mark: tuple[int, int, int]) -> None:
        """Drop the hooks and events given since `mark`, with the statements of their block."""
        del self._before[mark[0] :]
        del self._after[mark[1] :]
        del self.events[mark[2] :]

    @property
    def hooks_after(self) -> Sequence[AfterCommit]:
        """What runs once the commit is done."""
        return tuple(self._after)

    async def end_part(self) -> list[AfterCommit]:
        """End what one of the calls that share this did: run its hooks; return those that follow the commit."""
        await self._run_hooks()
        self._before.clear()
        self._ran = 0
        after, self._after = self._after, []
        return after

    async def _run_hooks(self) -> None:
        while self._ran < len(self._before):
            self._ran += 1
            await self._before[self._ran - 1](self)

    async def run_before_commit(self) -> None:
        """Run the hooks that have not run yet, also those that hooks add; then store the events."""
        await self._run_hooks()
        if self.events:
            from interlock.data import outbox  # noqa: PLC0415 - it stands on this module

            events, self.events = self.events, []
            await outbox.store(self, events)

    async def commit(self) -> None:
        """Commit, then run the after-hooks; if that fails, nothing of the transaction remains."""
        try:
            await self.run_before_commit()
            await self._commit()
        except BaseException:
            await self.roll_back()
            raise
        self._ended = True
        to_disk = self._wire.to_disk
        await self._pool.give(self._pooled)  # the next may write while this one waits for the disk
        if to_disk is not None:
            await to_disk()
        await run_after_commit(self._after)

    async def _commit(self) -> None:
        if self.conflicted:
            raise Conflict("another transaction changed the same thing at the same time")
        began = time.perf_counter()
        try:
            # PostgreSQL takes COMMIT for ROLLBACK once a statement has failed, and so does SQLite on a full disk
            if self._pooled.undone or not await self._wire.commit():
                raise Aborted("the transaction was undone: a statement in it has failed, though nobody said so")
        except Conflict:
            self.conflicted = True
            raise
        finally:
            self.database.measure(time.perf_counter() - began, "COMMIT")

    async def roll_back(self) -> None:
        """Undo everything and let go of the connection; never raises. Nothing to do once it has ended."""
        try:
            async with self._turn:
                if not self._ended:
                    self._ended = True
                    await self._undo()
        except Exception:
            log.warning("a connection broke while its transaction was rolled back", exc_info=True)

    async def _undo(self) -> None:
        pooled = self._pooled
        try:
            if not pooled.broken:
                await self._wire.roll_back()
                if pooled.connection.in_transaction():  # savepoints that were open
                    await pooled.connection.rollback()
        except Exception:
            await pooled.connection.invalidate()
            log.warning("a connection broke while its transaction was rolled back", exc_info=True)
        finally:
            await self._pool.give(pooled)


async def run_after_commit(hooks: Sequence[AfterCommit]) -> None:
    """Run hooks in order; what they raise is only logged."""
    for hook in hooks:
        try:
            await hook()
        except Exception:
            log.exception("a hook failed after its transaction was committed")


@lru_cache(maxsize=1024)
def _text(statement: str) -> TextClause:
    return text(statement)
