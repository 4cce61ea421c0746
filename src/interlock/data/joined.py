"""A transaction of somebody else's, such as a session's of the service's own engine, that takes events along."""

import asyncio
from collections.abc import Sequence
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from interlock.data.pool import Pool, Pooled
from interlock.data.transaction import AfterCommit, Transaction
from interlock.data.unit import Scope, open_scope, scope
from interlock.data.wires import BorrowedWire

if TYPE_CHECKING:
    from interlock.data.database import Database


class Joined:
    """What `Database.joined()` returns: `async with` it for a Transaction that its owner begins and ends.

    What is published in the block is stored at the block's end, and goes out once the owner commits; so does what the
    hooks of `after_commit` announce. Where the block raises, nothing of it is stored. `database.transaction()` inside
    the block joins it.
    """

    whole_call = False

    def __init__(self, database: "Database", owner: AsyncSession | AsyncConnection) -> None:
        self._database = database
        self._owner = owner
        self._token: Token[Scope | None] | None = None
        self.parent: Scope | None = None
        self.transaction: Transaction | None = None
        self.lock = asyncio.Lock()
        self.open = True
        self.conflicted = False

    async def __aenter__(self) -> Transaction:
        owner = self._owner
        if isinstance(owner, AsyncSession):
            await owner.flush()  # what the block does may refer to it
            connection = await owner.connection()
        else:
            connection = owner
        pooled = Pooled(connection, BorrowedWire(connection))
        self.transaction = Transaction(self._database, pooled, _nobody)
        self.parent = open_scope()
        self._token = scope.set(self)
        return self.transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open = False
        assert self._token is not None and self.transaction is not None  # noqa: S101, PT018 - entered
        scope.reset(self._token)
        if error is None:
            await self.transaction.run_before_commit()
            self._announce(self.transaction)

    def _announce(self, transaction: Transaction) -> None:
        """Have the hooks run once the owner has committed, in a task of their own: SQLAlchemy tells it in between."""
        loop, hooks = asyncio.get_running_loop(), transaction.hooks_after
        told: set[asyncio.Task[None]] = set()

        def committed(_connection: Any) -> None:
            task = loop.create_task(_run(hooks))
            told.add(task)
            task.add_done_callback(told.discard)

        if hooks:
            event.listen(transaction.connection.sync_connection, "commit", committed, once=True)


async def _run(hooks: Sequence[AfterCommit]) -> None:
    for hook in hooks:
        await hook()


async def _none() -> Pooled:
    raise RuntimeError("a joined transaction takes no connection")


_nobody = Pool(_none, 0, 0.0, keep=False)
