"""A keyed create and a consumed event, with a fault at a step of theirs; as a process, it is killed at each.

`python -m tests.events.faults URL KIND` runs the work once a step, each time in a process of its own that kills itself.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from interlock.call import Call, Cancellation, Direction, Handler, Middleware, Principal, Reply
from interlock.contract.model import Operation
from interlock.data import Conflict, Database, Transaction
from interlock.data.idempotency import StoredAnswers
from interlock.data.unit import delist, enlist
from interlock.events.arrival import Arrival
from interlock.events.attempts import attempts
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.envelope import Envelope
from interlock.events.inbox import inbox
from interlock.events.subscriptions import subscriptions
from interlock.protocols.decode import decode
from interlock.resilience.idempotency import idempotency
from tests.data.calls import new_call, run
from tests.events.listening import CONTRACT, QUICK, Listener, made, publisher
from tests.sample.gen.sample.v1.sample_pb import EchoMade, Thing
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER

STEPS = ("begun", "written", "published", "returned", "noted", "committed")
"""In the block before and behind its write, behind its event, behind the block, behind the note, behind the commit."""
KINDS = ("create", "event")
SERVICE = SAMPLE_LISTENER.name

Fault = Callable[["Work", Call, Transaction | None], Awaitable[None]]


class Work:
    """The work called `step`, done by `create` or `event`; the first time it meets `fault` at that step."""

    def __init__(self, database: Database, step: str, fault: Fault) -> None:
        self.database = database
        self.step = step
        self.fault: Fault | None = fault
        self.runs = 0

    async def do(self, kind: str) -> None:
        """Do it once, as a front or a consumer would."""
        await (self.create() if kind == "create" else self.consume())

    async def create(self) -> None:
        """Call the KEYED operation, the key being the step."""
        call = new_call(self.step, key=self.step, task=asyncio.current_task())
        layers = [idempotency(StoredAnswers(self.database)), self._noting]
        await run(self._handle, call, layers)

    async def consume(self) -> None:
        """Consume the event that the step names."""
        broker = MemoryBroker()
        await broker.publish([self.envelope])
        delivery = await (await broker.subscribe(SERVICE, ["echo.made"])).next()
        ((operation, _),) = subscriptions(CONTRACT.service(SERVICE), CONTRACT.events, Listener())
        call = Call(
            operation,
            direction=Direction.CONSUMED,
            principal=Principal(subject=SERVICE),
            protocol="event",
            incoming=Arrival(delivery, EchoMade),
            task=asyncio.current_task(),
        )
        await run(self._handle, call, [attempts(QUICK), decode, inbox(self.database), self._noting])

    @property
    def envelope(self) -> Envelope:
        """The event, the same each time."""
        return replace(made(self.step), id=f"event-{self.step}")

    async def found(self, kind: str) -> tuple[int, int, int]:
        """Return how often it is there: its effect, the event it published, the note that it is done."""
        note, name = (
            ("SELECT count(*) FROM interlock_idempotency WHERE key = :name AND answer IS NOT NULL", self.step)
            if kind == "create"
            else (
                "SELECT count(*) FROM interlock_inbox WHERE event_id = :name AND processed_at IS NOT NULL",
                self.envelope.id,
            )
        )
        async with self.database.transaction(read_only=True) as tx:
            effects = await tx.execute("SELECT count(*) FROM effect WHERE text = :text", {"text": self.step})
            events = await tx.execute(
                "SELECT count(*) FROM interlock_outbox WHERE partition_key = :text", {"text": self.step}
            )
            notes = await tx.execute(note, {"name": name})
        return effects.scalar_one(), events.scalar_one(), notes.scalar_one()

    async def _handle(self, call: Call) -> Reply:
        self.runs += 1
        async with self.database.transaction() as tx:
            await tx.execute("SELECT count(*) FROM clash")  # what it sees is as of now
            await self._at("begun", call, tx)
            await tx.execute("INSERT INTO effect VALUES (:text)", {"text": self.step})
            await self._at("written", call, tx)
            await tx.publish(EchoMade(text=self.step))
            await self._at("published", call, tx)
            tx.after_commit(lambda: self._at("committed", call, None))
        await self._at("returned", call, None)
        return Thing(name=self.step)

    def _noting(self, _operation: Operation) -> Middleware:
        async def noted(call: Call, proceed: Handler) -> Reply:
            async def hook(tx: Transaction, _reply: Reply) -> None:
                await self._at("noted", call, tx)

            token = enlist(self.database, hook)
            try:
                return await proceed(call)
            finally:
                delist(token)

        return noted

    async def _at(self, step: str, call: Call, tx: Transaction | None) -> None:
        if step == self.step and self.fault is not None:
            fault, self.fault = self.fault, None
            await fault(self, call, tx)


async def crash(_work: Work, _call: Call, _tx: Transaction | None) -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


async def cancel(_work: Work, call: Call, _tx: Transaction | None) -> None:
    """Have the client go away."""
    call.cancel(Cancellation.CLIENT_GONE)
    await asyncio.sleep(0)


async def clash(work: Work, _call: Call, tx: Transaction | None) -> None:
    """Meet a transaction that can't be ordered before ours: a real one on PostgreSQL, SQLite has none."""
    if not work.database.is_postgresql:
        raise Conflict("as if")
    import asyncpg  # type: ignore[import-untyped]  # published without types

    other = await asyncpg.connect(work.database._url.set(drivername="postgresql").render_as_string(hide_password=False))
    await other.execute("UPDATE clash SET number = number + 1")
    await other.close()
    if tx is not None:
        await tx.execute("UPDATE clash SET number = number + 1")
        return
    async with work.database.transaction() as joined:
        await joined.execute("UPDATE clash SET number = number + 1")


async def opened(url: str, **options: Any) -> Database:
    """Return the started database with its tables."""
    database = Database(url, **options)
    database.publisher = publisher()
    await database.start()
    async with database.transaction() as tx:
        await tx.execute("CREATE TABLE IF NOT EXISTS effect (text VARCHAR(50) NOT NULL)")
        await tx.execute("CREATE TABLE IF NOT EXISTS clash (number INTEGER NOT NULL)")
        await tx.execute("INSERT INTO clash SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM clash)")
    return database


async def _die(url: str, kind: str, step: str) -> None:
    database = await opened(url)
    with suppress(asyncio.CancelledError):
        await Work(database, step, crash).do(kind)
    await database.stop()


def main(url: str, kind: str) -> int:
    """Die once at each step; return 1 if one did not."""
    survived = 0
    for step in STEPS:
        child = os.fork()
        if not child:
            asyncio.run(_die(url, kind, step))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.stderr.write(f"{kind} was not killed at {step}\n")
            survived = 1
    return survived


__all__ = ["KINDS", "STEPS", "Work", "cancel", "clash", "crash", "opened"]

if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
