"""The long form of the ledger test: `make soak`, or `python -m bench.soak --help`."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.soak_cell import Ordeal, cell
from bench.soak_outage import outage
from interlock.errors import Error
from interlock.testing.servers import NoServer

RESULTS = Path(__file__).parent / "results/soak.json"

DESCRIPTION = """Move money between two banks, each a process, by outbox, broker and inbox, while they are killed with
-9 again and again, and with them a PostgreSQL, a NATS or a RabbitMQ server of our own; then fill their disk. In the
end the sum must be as it was, nothing acknowledged lost, every event have had its effect once and in its key's order,
and the broker have delivered events twice, or the test did not bite.

The cells `outage+…` take the broker away for 30 s under load: calls must go on, the outbox keep their events, memory
stay as it was, and all be drained in the end.
"""
EXAMPLES = """examples:
  make soak                                            every database with every broker, and the outages; half an hour
  make soak ARGS="--at-once 2"                         two cells at a time, where there are cores for it
  make soak ARGS="--cells sqlite+embedded"             one cell; the figures of the others are kept
  make soak ARGS="--transfers 500 --kills 2 --dry"     a trial that keeps no figures

exit code: 0 all holds, 1 something does not, 2 something is missing here.
"""
BROKERS = ("embedded", "nats", "rabbitmq")
CELLS = (
    *(f"{database}+{broker}" for database in ("sqlite", "postgresql") for broker in BROKERS),
    "outage+nats",
    "outage+rabbitmq",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells asked for, print and keep their figures; return the exit code."""
    options = _parser().parse_args(arguments)
    found = asyncio.run(_all(options))
    kept = [each for each in found if each is not None]
    if not options.dry:
        _keep(kept)
    for each in kept:
        for what in each["wrong"]:
            print(f"soak: {each['cell']}: {what}", file=sys.stderr)
    if any(each["wrong"] for each in kept):
        return 1
    return 2 if len(kept) < len(found) else 0


async def _all(options: argparse.Namespace) -> list[dict[str, Any] | None]:
    room = asyncio.Semaphore(options.at_once)

    async def one(name: str) -> dict[str, Any] | None:
        async with room:
            print(f"{name} …", flush=True)
            try:
                figures = await _figures(name, options)
            except (NoServer, Error) as missing:
                print(f"soak: {name}: NOT RUN: {missing}", file=sys.stderr)
                return None
            print(json.dumps({key: value for key, value in figures.items() if key != "books"}), flush=True)
            return figures

    return await asyncio.gather(*map(one, options.cells))


async def _figures(name: str, options: argparse.Namespace) -> dict[str, Any]:
    first, _, second = name.partition("+")
    if first == "outage":
        return await outage(second, options.outage)
    return await cell(name, Ordeal(transfers=options.transfers, kills=options.kills, settle=options.settle))


def _keep(cells: Sequence[dict[str, Any]]) -> None:
    """Write the figures, beside those of cells that were not run."""
    before = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    at = datetime.now(UTC).isoformat(timespec="seconds")
    known = {each["cell"]: each for each in before} | {each["cell"]: {"at": at, **each} for each in cells}
    RESULTS.write_text(json.dumps({"cells": [known[name] for name in CELLS if name in known]}, indent=1) + "\n")


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
    parser.add_argument("--outage", type=float, default=30.0, metavar="S", help="seconds without broker (default: 30)")
    parser.add_argument("--settle", type=float, default=300.0, metavar="S", help="seconds to become quiet in the end")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="cells at a time (default: 1)")
    parser.add_argument("--dry", action="store_true", help="keep no figures")
    return parser


def _cells(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CELLS]:
        raise argparse.ArgumentTypeError(f"no cell {', '.join(unknown)}; there are {', '.join(CELLS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
