"""The call's transaction: opened by the first `database.transaction()` of a call, committed after its handler.

What a new block belongs to is found through one ContextVar, so it is right in sub-tasks (which inherit it) and in
streams (where a block is its own unit). No SQL here: clients and stacks import this module, and stay light.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from interlock.call import Call, Direction, Handler, Layer, Middleware, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import Kind, Operation
from interlock.deadline import monotonic
from interlock.errors import Aborted
from interlock.metadata import Metadata

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

T = TypeVar("T")

ATTEMPTS = 12
"""How often work is run whose transaction can't be ordered behind another one, before its caller is told."""


class Conflict(Aborted):
    """The transaction can't be ordered behind another one that ran at the same time; running it again may succeed."""


CommitHook = Callable[["Transaction", Reply], Awaitable[None]]
"""Runs in the call's transaction once the handler has replied, right before the commit; what it raises rolls back."""

TogetherHook = Callable[["Transaction", Sequence[Any]], Awaitable[None]]
"""Does what a CommitHook does for several calls that share a transaction, each given as an item."""


class Scope(Protocol):
    """What a new block belongs to: the block around it, or the call's unit."""

    parent: "Scope | None"
    transaction: "Transaction | None"
    lock: asyncio.Lock
    open: bool
    conflicted: bool

    @property
    def whole_call(self) -> bool:
        """Whether it is a call's unit, outside of which none of the call's work may fall."""
        ...


class Share(Protocol):
    """One call's part in a transaction that calls which run one behind the other share; see `interlock.data.batch`."""

    async def begin(self, database: "Database") -> "Transaction":
        """Return the shared transaction; a Conflict if there is none any more."""
        ...

    async def commit(self, unit: "Unit", reply: Reply, enlisted: "tuple[Enlisted, ...]") -> None:
        """Wait until what the call did is committed with the rest; Undone if it was not."""
        ...

    def undo(self) -> bool:
        """Have the shared transaction undone once nobody uses it; False if there is none, but one of the call's own."""
        ...

    async def turn(self) -> None:
        """Wait until the calls in front of this one are done with."""
        ...

    def repeats(self, call: Call, raised: BaseException) -> bool:
        """Tell whether a call that failed so in company is to run again, alone."""
        ...


class Undone(Conflict):
    """The transaction that the call shared was undone."""


@dataclass(frozen=True, slots=True)
class Enlisted:
    """What a layer outside the unit wants done in its transaction, and what names the call across repetitions.

    `together` does for several calls what `hook` does for one; `item` is what it is told of this one.
    """

    database: "Database"
    hook: CommitHook
    origin: str
    together: TogetherHook | None = None
    item: Any = None


sharing: ContextVar[Share | None] = ContextVar("interlock_sharing", default=None)
"""The part that the next unit of this task has in a transaction it shares."""

scope: ContextVar[Scope | None] = ContextVar("interlock_scope", default=None)
_enlisted: ContextVar[tuple[Enlisted, ...]] = ContextVar("interlock_enlisted", default=())


def open_scope() -> Scope | None:
    """Return what a new block belongs to, None for a transaction of its own.

    RuntimeError in work that a handler left behind: its call's transaction is over.
    """
    found = scope.get()
    while found is not None and not found.open:
        if found.whole_call:
            raise RuntimeError("the call's transaction is over; work that outlives its call starts with detached(…)")
        found = found.parent
    return found


class Unit:
    """The one transaction of one run of a handler; `transaction` is None until a block opens it.

    `origin` names the call the same whenever it is repeated, empty where nothing does; `sent` counts the calls made so
    far by what they ask, so that a run which repeats another repeats its calls under the same keys.
    """

    __slots__ = ("conflicted", "lock", "open", "origin", "parent", "sent", "share", "transaction")

    whole_call = True

    def __init__(self, origin: str = "", share: Share | None = None) -> None:
        self.origin = origin
        self.share = share
        self.sent: dict[bytes, int] = {}
        self.parent: Scope | None = None
        self.transaction: Transaction | None = None
        self.lock = asyncio.Lock()
        self.open = True
        self.conflicted = False

    async def begin(self, database: "Database") -> "Transaction":
        """Begin the call's transaction, for its first block."""
        self.transaction = await (database.begin() if self.share is None else self.share.begin(database))
        return self.transaction

    async def abandon(self) -> None:
        """Undo what the first block did, which failed; another may follow, and begins anew."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None and (self.share is None or not self.share.undo()):
            await transaction.roll_back()

    async def finish(self, reply: Reply, enlisted: tuple[Enlisted, ...]) -> None:
        """Close the unit and commit; RuntimeError while a block is still open."""
        if self.lock.locked():
            raise RuntimeError("the handler returned while a task of its own is still inside a transaction")
        self.open = False
        if self.share is not None:
            share = self.share
            try:
                await share.commit(self, reply, enlisted)
                return
            except Undone:
                if self.transaction is not None:
                    raise
                self.share = None  # the handler left nothing to do again
                await share.turn()
        await to_end(self.commit(reply, enlisted))

    async def commit(self, reply: Reply, enlisted: tuple[Enlisted, ...]) -> None:
        """Run what was enlisted, then commit; nothing to do for a call that neither opened nor enlisted anything."""
        transaction = self.transaction
        for each in enlisted:
            if transaction is None:
                transaction = self.transaction = await each.database.begin()
            elif transaction.database is not each.database:
                raise RuntimeError("a call has one transaction, in one database; its layers use another one")
            await transaction.run_before_commit()
            await each.hook(transaction, reply)
        if transaction is not None:
            await transaction.commit()

    async def roll_back(self) -> None:
        """Undo everything."""
        self.open = False
        if (self.share is None or not self.share.undo()) and self.transaction is not None:
            self.conflicted |= self.transaction.conflicted
            await self.transaction.roll_back()


def enlist(
    database: "Database", hook: CommitHook, origin: str = "", together: TogetherHook | None = None, item: Any = None
) -> Token[Any]:
    """Have `hook` run in the transaction of the call's unit, which is opened for it if the handler opens none.

    For layers outside `unit_of_work`, before they proceed; `delist` it when the chain has returned. `origin` names the
    call, the same whenever it is repeated: the consumer and the event's id, or the caller and its idempotency key.
    Where calls share a transaction, `together` is run once with the items of all.
    """
    return _enlisted.set((*_enlisted.get(), Enlisted(database, hook, origin, together, item)))


def delist(token: Token[Any]) -> None:
    """Take back what `enlist` did."""
    _enlisted.reset(token)


def current_unit() -> Unit | None:
    """Return the unit of the call that this task works for, if it is one."""
    found = scope.get()
    while found is not None and not isinstance(found, Unit):
        found = found.parent
    return found


def unit_of_work(direction: Direction = Direction.SERVED) -> Layer:
    """Make all blocks of a call one transaction: of every CONSUMED call, and of SERVED calls that are KEYED and unary.

    It commits after the handler returned, shielded from cancellation, and is rolled back if the handler raised or the
    call was cancelled. A Conflict runs the handler again, with the request and reply metadata as they were, up to
    `ATTEMPTS` times or until the deadline; then it goes to the caller as ABORTED. A call that shares its transaction
    with others (`interlock.data.batch`) waits for the common commit, and runs again, alone, if it comes to nothing.
    """

    def layer(operation: Operation) -> Middleware | None:
        keyed = operation.idempotency is Idempotency.KEYED and operation.kind is Kind.UNARY
        return _in_unit if keyed or direction is Direction.CONSUMED else None

    return layer


async def _in_unit(call: Call, proceed: Handler) -> Reply:
    enlisted = _enlisted.get()
    origin = "/".join(each.origin for each in enlisted)
    request_type, request = type(call.request), call.request.to_binary()  # a handler may change what it is given
    head, tail = tuple(call.head), tuple(call.tail)
    attempt, share = 1, sharing.get()
    if share is not None:
        sharing.set(None)  # should a layer outside repeat the call, it runs alone
    while True:
        unit = Unit(origin, share)
        token = scope.set(unit)
        try:
            return await _run(unit, call, proceed, enlisted)
        except BaseException as raised:
            await to_end(unit.roll_back())
            if unit.share is not None and unit.share.repeats(call, raised):
                await unit.share.turn()
            elif isinstance(raised, asyncio.CancelledError) or not (unit.conflicted or isinstance(raised, Conflict)):
                raise
            elif attempt == ATTEMPTS or call.deadline.at <= monotonic():
                raise Conflict("too many others change the same thing; try again later") from raised
            else:
                await asyncio.sleep(pause(attempt))
        finally:
            scope.reset(token)
        attempt, share = attempt + 1, None
        call.request = request_type.from_binary(request)
        _restore(call.reply_headers, head)
        _restore(call.reply_trailers, tail)


def _restore(metadata: Metadata, raw: tuple[tuple[bytes, bytes], ...]) -> None:
    metadata.raw.clear()
    metadata.extend(Metadata.from_raw(list(raw)))


async def _run(unit: Unit, call: Call, proceed: Handler, enlisted: tuple[Enlisted, ...]) -> Reply:
    reply = await proceed(call)
    if call.cancellation is not None:  # swallowed by the handler; its caller is told of a failure
        raise asyncio.CancelledError
    await unit.finish(reply, enlisted)
    return reply


def pause(attempt: int) -> float:
    """Return how long to wait behind a conflict, in seconds: some ms, more with each attempt, by chance."""
    return random.uniform(0, min(0.2, 0.002 * 2**attempt))  # noqa: S311 - jitter, not a secret


async def to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` to its end even if this task is cancelled, which is then told afterwards."""
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as given:
            cancelled = cancelled or given
    if cancelled is None:
        return task.result()
    if not task.cancelled():
        task.exception()  # seen: the cancellation is what counts
    raise cancelled
