"""Group commit: calls that run one behind the other share a transaction, and commit together or run again, each alone.

Each call sees what those in front of it wrote. Whatever goes wrong in company undoes the whole; a failure is believed
of a call that is alone.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from interlock.call import Call, Reply
from interlock.data.unit import Enlisted, TogetherHook, Undone, Unit, to_end

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import AfterCommit, Transaction

log = logging.getLogger("interlock.data")

LOCK_WAIT = 0.05
"""Seconds for which a shared transaction waits for the lock of a row: those that hold several would wait in circles."""


class Batch:
    """The transaction that calls share, each with a `Part`. Belongs to one event loop."""

    __slots__ = ("_ending", "_transaction", "parts", "undone")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        """Those whose handlers have returned, in that order; they wait for the commit."""
        self.undone = False
        self._transaction: Transaction | None = None
        self._ending = False

    async def begin(self, database: "Database") -> "Transaction":
        """Return the transaction, begun if it is the first time; Undone if it is no more, or another database's."""
        if self._transaction is None and not self.undone:
            self._transaction = await database.begin(lock_wait=LOCK_WAIT)
        if self.undone or self._transaction is None or self._transaction.database is not database:
            raise Undone("the transaction that was shared was undone")
        return self._transaction

    async def end(self) -> None:
        """Commit what the parts did, or undo it; to be called once no handler of theirs runs. Never raises.

        A commit that fails sets `undone`. It goes on to its end if the caller is cancelled.
        """
        self._ending = True
        await to_end(self._end())
        for part in self.parts:
            part.tell()

    async def _end(self) -> None:
        try:
            if not self.undone:
                await self._commit()
        except Exception as failed:
            self.undone = True
            log.debug("calls that shared a transaction run again, each alone", exc_info=failed)
        if self.undone and self._transaction is not None:
            await self._transaction.roll_back()

    async def _commit(self) -> None:
        transaction = self._transaction
        for hook, items, database in _gathered(self.parts):
            if transaction is None:
                transaction = await self.begin(database)
            await hook(transaction, items)
        if transaction is not None:
            await transaction.commit()

    def undo(self) -> None:
        """Have everything undone, unless the end has begun; those who wait for it are told."""
        if not self._ending:
            self.undone = True
            for part in self.parts:
                part.tell()


class Part:
    """What one call has in a batch; fills `Share`. `on_reached` is called when its handler has returned, or failed.

    `begun` says that it has used the transaction. `go` lets it run again, alone, or commit alone.
    """

    __slots__ = ("_after", "_batch", "_go", "_reached", "_told", "begun", "enlisted", "recalled", "reply")

    def __init__(self, batch: Batch, on_reached: Callable[[], object]) -> None:
        self.begun = False
        self.reply: Any = None
        self.enlisted: tuple[Enlisted, ...] = ()
        self.recalled = False
        self._after: list[AfterCommit] = []
        self._batch: Batch | None = batch
        self._go = asyncio.Event()
        self._reached = on_reached
        self._told: asyncio.Future[None] | None = None

    def go(self) -> None:
        """Let it run again, or commit, alone: those in front of it are done with."""
        self._go.set()

    def leave(self) -> bool:
        """Take it out of the batch, in a transaction of its own; False if it has used that of the batch already."""
        if not self.begun:
            self._batch = None
        return not self.begun

    @property
    def left(self) -> bool:
        """Whether it is out of the batch."""
        return self._batch is None

    def recall(self, call: Call) -> None:
        """Stop its handler, so that it runs again, alone."""
        self.recalled = True
        if call.task is not None:
            call.task.cancel()

    def tell(self) -> None:
        """Have it go on: the commit is done, or the batch undone."""
        if self._told is not None and not self._told.done():
            self._told.set_result(None)

    async def begin(self, database: "Database") -> "Transaction":
        """Return the shared transaction; one of its own, in its turn, once it has left."""
        if self._batch is None:
            await self._go.wait()
            return await database.begin()
        self.begun = True
        return await self._batch.begin(database)

    async def commit(self, unit: Unit, reply: Reply, enlisted: tuple[Enlisted, ...]) -> None:
        """Wait for the common commit; alone once it has left."""
        batch = self._batch
        if batch is None:
            unit.share = None
            await self.turn()
            await to_end(unit.commit(reply, enlisted))
            return
        if batch.undone:
            raise Undone("the transaction that was shared was undone")
        if unit.transaction is not None:
            self._after = await unit.transaction.end_part()
        self.reply, self.enlisted = reply, enlisted
        self._told = asyncio.get_running_loop().create_future()
        batch.parts.append(self)
        self._reached()
        await self._told
        if batch.undone:
            raise Undone("the transaction that was shared was undone")
        if self._after:
            from interlock.data.transaction import run_after_commit  # noqa: PLC0415 - where there is a database

            await to_end(run_after_commit(self._after))

    def undo(self) -> bool:
        """Have the batch undone; False if it has left it, and its transaction is its own."""
        if self._batch is not None:
            self._batch.undo()
        return self._batch is not None

    async def turn(self) -> None:
        """Wait to be let go."""
        self._reached()
        await self._go.wait()

    def repeats(self, call: Call, raised: BaseException) -> bool:
        """Tell whether the call runs again: what failed in company, and what was recalled, but nothing cancelled."""
        if self.recalled and call.task is not None:
            call.task.uncancel()
            return call.cancellation is None
        return isinstance(raised, Exception)


def _gathered(parts: list[Part]) -> "list[tuple[TogetherHook, list[Any], Database]]":
    """Return what the parts enlisted, in order: what is done for all together once, the rest for each."""
    found: list[tuple[TogetherHook, list[Any], Database]] = []
    known: dict[TogetherHook, list[Any]] = {}
    for part in parts:
        for each in part.enlisted:
            if each.together is None:
                found.append((_single(each), [part.reply], each.database))
            elif (items := known.get(each.together)) is not None:
                items.append(each.item)
            else:
                known[each.together] = items = [each.item]
                found.append((each.together, items, each.database))
    return found


def _single(enlisted: Enlisted) -> TogetherHook:
    async def run(transaction: "Transaction", replies: Any) -> None:
        await enlisted.hook(transaction, replies[0])

    return run
