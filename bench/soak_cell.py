"""One cell of the soak: a database and a broker, two banks, and everything killed."""

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.soak_parts import (
    RABBITMQ_KEEPS,
    Bank,
    Disk,
    Process,
    Victim,
    books,
    broker,
    databases,
    dead_letters,
    disk,
    groups_known,
)
from interlock.data import Database
from interlock.testing.waiting import until
from tests.ledger import banks

PARTS = ("sender", "receiver")
_FULL_FOR = 5.0
_NOTICED_WITHIN = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordeal:
    """How much a cell goes through; times in seconds."""

    transfers: int = 10_000
    kills: int = 20
    pauses: tuple[float, float] = (2.0, 11.0)
    settle: float = 300.0
    full_disk: bool = True
    bites: bool = True
    """Whether it is wrong that nothing was delivered twice: so few kills need not bring that about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What one cell is made of; `notes` is where the banks write what they did."""

    banks: Sequence[Bank]
    victims: Mapping[str, Victim]
    disks: Sequence[Disk]
    databases: Sequence[Database]
    broker_url: str
    notes: Path


async def cell(name: str, ordeal: Ordeal) -> dict[str, Any]:
    """Run one cell and return its figures; `wrong` among them is empty if all holds. NoServer for what can't start."""
    began = time.monotonic()
    async with _scene(name) as scene:
        figures = await _run(scene, ordeal, restarted="nats" in name)
        return {"cell": name, **figures, "seconds": round(time.monotonic() - began, 1)}


@asynccontextmanager
async def _scene(name: str) -> AsyncIterator[_Scene]:
    engine, _, kind = name.partition("+")
    async with AsyncExitStack() as stack:
        notes = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-soak-")))
        disks = [stack.enter_context(disk())]
        if kind == "rabbitmq":
            disks.append(stack.enter_context(disk(leaves=RABBITMQ_KEEPS)))
        broker_url, broker_server = stack.enter_context(broker(kind, disks[-1].directory))
        urls, database_server = await stack.enter_async_context(databases(engine, disks[0].directory))
        await groups_known(broker_url)
        parts = {part: Bank(part, url, broker_url, notes) for part, url in zip(PARTS, urls, strict=True)}
        servers: dict[str, Process | None] = {"broker": broker_server, "database": database_server}
        processes: dict[str, Process] = {
            **parts,
            **{each: server for each, server in servers.items() if server is not None},
        }
        opened = [await stack.enter_async_context(Database(url)) for url in urls]
        for each in opened:
            await banks.open_books(each)
        for part in parts.values():
            stack.callback(part.stop)
        yield _Scene(
            banks=list(parts.values()),
            victims={each: Victim(process) for each, process in processes.items()},
            disks=disks,
            databases=opened,
            broker_url=broker_url,
            notes=notes,
        )


async def _run(scene: _Scene, ordeal: Ordeal, *, restarted: bool) -> dict[str, Any]:
    sender, receiver = scene.banks
    sending, receiving = scene.databases
    full: dict[str, Any] | str = "not tried: no small file system can be mounted here"
    watching = asyncio.create_task(_watch(scene.victims.values()))
    try:
        receiver.start()
        sender.start()
        await asyncio.gather(*(_kill(each, ordeal) for each in scene.victims.values()))
        kills = {name: each.kills for name, each in scene.victims.items()}
        if ordeal.full_disk and all(each.mounted for each in scene.disks):
            full = await _fill(scene.disks, scene.notes / "refused")
            if restarted:  # a JetStream stream whose write failed takes no more until then
                await scene.victims["broker"].kill()
        await until(lambda: _sent(sending, ordeal.transfers), ordeal.settle, pause=0.5)
        sender.part = "quiet"  # no more is sent; another process takes out what is in the outbox
        await scene.victims["sender"].kill()
        total = (await books(sending)).sent
        with suppress(TimeoutError):
            await banks.settled(sending, receiving, total, ordeal.settle)
        kept = [await books(each) for each in scene.databases]
        letters = await dead_letters(scene.broker_url)
    finally:
        watching.cancel()
    for part in scene.banks:
        await asyncio.to_thread(part.stop)
    delivered = [Counter((scene.notes / f"{part}.delivered").read_text().split()) for part in PARTS]
    duplicates = sum(each.total() - len(each) for each in delivered)
    acknowledged = (scene.notes / "sent").read_text().splitlines()
    return {
        "transfers": kept[0].sent,
        "delivered": sum(each.total() for each in delivered),
        "duplicates": duplicates,
        "kills": kills,
        "full_disk": full,
        "refused": dict(_refused(scene.notes / "refused")),
        "dead_letters": letters,
        "books": [asdict(each) for each in kept],
        "wrong": [
            *_lost(acknowledged, kept[0].sent),
            *(words for part in scene.banks for words in part.last_words()),
            *banks.wrong(kept, duplicates or not ordeal.bites, letters),
        ],
    }


async def _sent(sending: Database, count: int) -> bool:
    return (await books(sending)).sent >= count


async def _kill(victim: Victim, ordeal: Ordeal) -> None:
    """Kill a process again and again, at any point of its work: leases run for 5 s before another goes on."""
    while victim.kills < ordeal.kills:
        await asyncio.sleep(random.uniform(*ordeal.pauses))
        await victim.kill()


async def _watch(victims: Collection[Victim]) -> None:
    """Start again what ended by itself: a bank does not start while its broker is dead."""
    while True:
        await asyncio.sleep(0.5)
        for each in victims:
            await each.revive()


async def _fill(disks: Sequence[Disk], refused: Path) -> dict[str, Any]:
    """Fill the disks until transfers were refused for some seconds; return for how long, and what they were told."""
    before, began = _refused(refused), time.monotonic()
    try:
        with suppress(TimeoutError):
            await until(lambda: _noticed(disks, refused, before), _NOTICED_WITHIN, pause=0.2)
        for _ in range(int(_FULL_FOR)):
            _noticed(disks, refused, before)
            await asyncio.sleep(1.0)
    finally:
        for each in disks:
            each.clear()
    return {"seconds": round(time.monotonic() - began, 1), "refused": dict(_refused(refused) - before)}


def _noticed(disks: Sequence[Disk], refused: Path, before: Counter[str]) -> bool:
    for each in disks:
        each.fill()  # servers give room free meanwhile
    return _refused(refused).total() > before.total()


def _refused(file: Path) -> Counter[str]:
    return Counter(file.read_text().splitlines() if file.exists() else ())


def _lost(acknowledged: Sequence[str], sent: int) -> list[str]:
    """Compare what was acknowledged with what was sent: a transfer lost would have its number given again."""
    if len(acknowledged) > sent:
        return [f"{len(acknowledged)} transfers were acknowledged, and {sent} are there"]
    again = [each for each, times in Counter(acknowledged).items() if times > 1]
    return [f"{len(again)} transfers were acknowledged and lost, such as {again[0]}"] if again else []


__all__ = ["Ordeal", "cell"]
