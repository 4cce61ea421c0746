"""Events that share a transaction, in which one meets a fault at a step; as a program, one that dies there.

`-m tests.events.batches DATABASE_URL DIRECTORY` consumes, once for each step, and is killed at it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from interlock.call import Call, Handler, Middleware, Reply
from interlock.contract.model import Operation
from interlock.data import Database
from interlock.data.transaction import Transaction
from interlock.data.unit import delist, enlist
from interlock.events.broker import Broker
from interlock.events.brokers.embedded import EmbeddedBroker
from interlock.events.consumer import Consumer
from interlock.events.envelope import Envelope
from interlock.events.pace import Pace
from tests.events.broker_suite import same_partition
from tests.events.listening import Listener, consumer, made, nothing_waits, publisher, running
from tests.sample.gen.sample.v1.sample_pb import EchoMade

STEPS = ("handled", "begun", "written", "published", "returned", "noted", "committed")
"""Before its block, in it before and behind its write, behind its event, behind the block, the note, the commit."""
EVENTS, GUILTY = 8, 5
KEYS = ("key", same_partition("key"))

Fault = Callable[["Batch", Call, Transaction | None], Awaitable[None]]


class Batch:
    """Eight events of one partition, with two keys by turns; one of them meets `fault` at `step`, the first time."""

    def __init__(self, database: Database, step: str = "", fault: Fault | None = None) -> None:
        self.database = database
        self.step = step
        self.fault = fault
        self.ran: list[str] = []
        self.calls: dict[str, Call] = {}
        self.commits = 0
        self.sent: list[Envelope] = [
            replace(made(f"{step}:{number}", KEYS[number % 2]), id=f"{step}-{number}") for number in range(EVENTS)
        ]

    def consumer(self, broker: Broker, size: int = EVENTS) -> Consumer:
        """Return a consumer of them, all in one transaction."""
        made = consumer(broker, Listener(self._handle), database=self.database, batch=size, inner=[self._noting])
        made.paces["echo.made"] = Pace(size, size=size, hold=5.0)
        return made

    async def consume(self, broker: Broker) -> None:
        """Consume them to their end."""
        async with running(self.consumer(broker)):
            await nothing_waits(broker, 20.0)

    async def found(self) -> tuple[list[str], list[str], list[str]]:
        """Return the effects that are there, in order, the events published, and the events noted as done."""
        mine = {"mine": f"{self.step}%"}
        async with self.database.transaction(read_only=True) as tx:
            effects = await tx.execute("SELECT text FROM effect WHERE text LIKE :mine ORDER BY number", mine)
            events = await tx.execute(
                "SELECT partition_key FROM interlock_outbox WHERE partition_key LIKE :mine ORDER BY position", mine
            )
            noted = await tx.execute(
                "SELECT event_id FROM interlock_inbox WHERE event_id LIKE :mine AND processed_at IS NOT NULL", mine
            )
        return list(effects.scalars()), list(events.scalars()), sorted(noted.scalars())

    async def at(self, step: str, call: Call, tx: Transaction | None) -> None:
        """Meet the fault, if this is where it waits."""
        if step == self.step and self.fault is not None and call.request.text == f"{self.step}:{GUILTY}":
            fault, self.fault = self.fault, None
            await fault(self, call, tx)

    async def _handle(self, message: EchoMade, call: Call) -> None:
        self.ran.append(message.text)
        self.calls[message.text] = call
        await self.at("handled", call, None)
        async with self.database.transaction() as tx:
            await tx.execute("SELECT count(*) FROM clash")  # what it sees is as of now
            await self.at("begun", call, tx)
            await tx.execute("INSERT INTO effect (text) VALUES (:text)", {"text": message.text})
            await self.at("written", call, tx)
            await tx.publish(EchoMade(text=message.text))
            await self.at("published", call, tx)
            tx.after_commit(lambda: self.at("committed", call, None))
        await self.at("returned", call, None)

    def _noting(self, _operation: Operation) -> Middleware:
        async def noted(call: Call, proceed: Handler) -> Reply:
            async def hook(tx: Transaction, _reply: Reply) -> None:
                await self.at("noted", call, tx)

            token = enlist(self.database, hook)
            try:
                return await proceed(call)
            finally:
                delist(token)

        return noted


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """Open the database with its tables; transactions are counted by what is measured."""
    database = Database(url)
    database.publisher = publisher()
    key = "SERIAL PRIMARY KEY" if database.is_postgresql else "INTEGER PRIMARY KEY"
    async with database:
        async with database.transaction() as tx:
            await tx.execute(f"CREATE TABLE IF NOT EXISTS effect (number {key}, text VARCHAR(50) NOT NULL)")
            await tx.execute("CREATE TABLE IF NOT EXISTS clash (number INTEGER NOT NULL)")
            await tx.execute("INSERT INTO clash SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM clash)")
        yield database


def broker_of(directory: Path, step: str) -> EmbeddedBroker:
    """Return the broker of a step's events, not started; who dies soon holds nothing any more."""
    return EmbeddedBroker(directory / f"{step}.db", lease=0.5)


async def crash(_batch: Batch, _call: Call, _tx: Transaction | None) -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


async def _die(url: str, directory: Path, step: str) -> None:
    broker = broker_of(directory, step)
    await broker.start()
    async with opened(url) as database:
        batch = Batch(database, step, crash)
        await broker.publish(batch.sent)
        await batch.consume(broker)


def main(arguments: Sequence[str]) -> int:
    """Die once at each step; return how often it did not."""
    url, directory = arguments
    children = {}
    for step in STEPS:
        child = os.fork()
        if not child:
            asyncio.run(_die(url, Path(directory), step))
            os._exit(0)
        children[child] = step
    survived = [step for child, step in children.items() if not os.WIFSIGNALED(os.waitpid(child, 0)[1])]
    sys.stderr.write("".join(f"not killed at {step}\n" for step in survived))
    return len(survived)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
