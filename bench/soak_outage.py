"""A broker that is away for a while, under load: what publishes goes on, the outbox keeps it, and drains after."""

import asyncio
import gc
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.soak_parts import Bank, books, broker, dead_letters, groups_known
from interlock.data import Database
from interlock.data.outbox import OutboxRow
from interlock.errors import Error
from interlock.events.envelope import Envelope
from interlock.testing.waiting import until
from tests.ledger import banks

_AT_ONCE = 8
_WARM_UP = 2.0
_HELD = 2_000
"""Events that the publishing process may have in memory, whatever the backlog: two batches of the relay, as rows and as
envelopes."""


@dataclass(slots=True)
class _Seen:
    """What was seen of the publishing service: seconds of each call by phase, and the most of the rest."""

    phase: str = "before"
    calls: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    refused: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    held: int = 0
    memory: int = 0

    async def look(self, sending: Database) -> int:
        """Look at outbox and memory; return what waits now."""
        async with sending.transaction(read_only=True) as tx:
            waiting: int = (await tx.execute("SELECT count(*) FROM interlock_outbox")).scalar_one()
        self.waiting = max(self.waiting, waiting)
        self.held = max(self.held, sum(isinstance(each, OutboxRow | Envelope) for each in gc.get_objects()))
        self.memory = max(self.memory, _resident())
        return waiting


async def outage(kind: str, away: float, *, memo: int = 8 << 10, settle: float = 120.0) -> dict[str, Any]:
    """Kill a broker of our own, start it again `away` seconds later, and return the figures, `wrong` among them.

    The publishing service runs in this process, on SQLite, and publishes events with `memo` bytes all the while; the
    consuming one is a process of its own. NoServer where the broker can't be started.
    """
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-outage-")))
        url, server = stack.enter_context(broker(kind, directory))
        if server is None:
            raise ValueError(f"{kind} is no process that could be away")
        await groups_known(url)
        urls = [f"sqlite:///{directory}/{name}.db" for name in ("sending", "receiving")]
        sending, receiving = map(Database, urls)
        await stack.enter_async_context(receiving)
        await banks.open_books(receiving)
        receiver = Bank("receiver", urls[1], url, directory)
        stack.callback(receiver.stop)
        receiver.start()
        bank, app = banks.app(banks.Sending, sending, url, banks.Raw())
        await stack.enter_async_context(app)
        seen = _Seen()
        async with _load(bank, seen, "m" * memo):
            await until(lambda: len(seen.calls["before"]) > 100, 60.0)
            await asyncio.sleep(_WARM_UP)
            await seen.look(sending)
            before = seen.memory
            await asyncio.to_thread(server.kill)
            seen.phase, gone = "during", time.monotonic()
            while time.monotonic() - gone < away:
                await asyncio.sleep(0.5)
                await seen.look(sending)
            seen.phase = "after"
            await asyncio.to_thread(server.start)
            back = time.monotonic()
        with suppress(TimeoutError):
            await until(lambda: _drained(sending, seen), settle, pause=0.2)
        drained = time.monotonic() - back
        with suppress(TimeoutError):
            await banks.settled(sending, receiving, (await books(sending)).sent, settle)
        kept = [await books(each) for each in (sending, receiving)]
        letters = await dead_letters(url)
    figures = {
        "seconds_away": away,
        "calls": {name: len(times) for name, times in seen.calls.items()},
        "p95_ms": {name: _ms(sorted(times)[int(len(times) * 0.95)]) for name, times in seen.calls.items()},
        "slowest_ms": {name: _ms(max(times)) for name, times in seen.calls.items()},
        "refused": dict(seen.refused),
        "outbox_most": seen.waiting,
        "outbox_most_mb": round(seen.waiting * memo / 1e6, 1),
        "held_most": seen.held,
        "memory_grew_mb": round((seen.memory - before) / 1e6, 1),
        "drained_in_seconds": round(drained, 1),
        "transfers": kept[0].sent,
        "dead_letters": letters,
        "books": [asdict(each) for each in kept],
    }
    wrong = [*_wrong(seen, away), *receiver.last_words(), *banks.wrong(kept, 1, letters)]
    return {"cell": f"outage+{kind}", **figures, "seconds": round(time.monotonic() - began, 1), "wrong": wrong}


@asynccontextmanager
async def _load(bank: banks.Sending, seen: _Seen, memo: str) -> AsyncIterator[None]:
    """Send all the while, in several tasks, and note how long each call takes."""

    async def send() -> None:
        while True:
            began = time.perf_counter()
            try:
                await bank.send(memo)
            except Error as error:
                seen.refused[f"{error.code.name} {error.message}"] += 1
            else:
                seen.calls[seen.phase].append(time.perf_counter() - began)
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(send()) for _ in range(_AT_ONCE)]
    try:
        yield
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _drained(sending: Database, seen: _Seen) -> bool:
    return await seen.look(sending) == 0


def _wrong(seen: _Seen, away: float) -> list[str]:
    found = []
    if seen.refused:
        found.append(f"calls were refused while the broker was away: {dict(seen.refused)}")
    if seen.waiting < len(seen.calls["during"]):
        found.append("THE TEST DID NOT BITE: events left the outbox while the broker was away")
    if len(seen.calls["during"]) < away * 20:
        found.append(f"{len(seen.calls['during'])} calls were answered in {away:g} s: the outage held them up")
    if max(seen.calls["during"]) > 5.0:
        found.append(f"a call took {max(seen.calls['during']):.1f} s while the broker was away")
    if seen.held > _HELD:
        found.append(f"{seen.held} events were held in memory at a time")
    return found


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
