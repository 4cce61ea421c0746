"""The command: `python -m bench`."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from bench import called, events, faststream, hostile, identity, process, report, served
from bench.figures import Effort, Section
from bench.load import WrongReply
from bench.processes import NotMeasured

SECTIONS: dict[str, Callable[[Effort], Section]] = {
    "unary": served.unary,
    "rest": served.rest,
    "connect": served.connect,
    "stream": served.stream,
    "workers": served.workers,
    "client": called.client,
    "hostile": hostile.hostile,
    "events": events.events,
    "faststream": faststream.faststream,
    "import": process.imports,
    "memory": process.memory,
}
RESULTS = Path(__file__).parent / "results"

DESCRIPTION = """Measure Interlock against what people would use instead, in the same run.

The unit is CPU microseconds per request of the server's whole process tree (user + system): unlike wall clock it
holds on a shared machine. Rounds go A B A B; the median is quoted with the range of the rounds, and the goal beside it.
Trust ratios within one run more than figures of two.
"""
EXAMPLES = """sections:
  unary     GetOrder over gRPC: ours, grpc.aio, grpcio with threads, connectrpc, bare ASGI
  rest      GET of the same order over HTTP/1.1: ours, FastAPI on uvicorn
  stream    messages of a server stream: ours, grpc.aio
  workers   requests per CPU second of two workers against one
  client    our typed client, a bare stub of grpc.aio
  hostile   what another caller waits under each attack
  events    publishing, outbox, relay, consuming with an inbox; a page a million rows down
  faststream  plain publishing and consuming on NATS: ours, FastStream
  import    import interlock, interlock --help
  memory    a worker's memory and its start

programs of their own, each with --help or its docstring:
  python -m bench.orders         orders through the gateway to CONFIRMED, open loop
  python -m bench.overload       twice and five times what a service can do
  python -m bench.restarts       rolling restarts under load
  python -m bench.amplification  retries over three layers with a dead backend
  python -m bench.breaker        slow calls, refusals and probes of a circuit breaker
  python -m bench.neighbours     collector, log and scraper gone or slow
  python -m bench.security       verifying tokens
  python -m bench.resilience     what each layer of a client costs
  python -m bench.soak           money moved between services that are killed all the while

examples:
  python -m bench                        everything, about ten minutes; writes bench/results/SECTION.json
  python -m bench --only unary,rest      two sections
  python -m bench --quick                everything roughly, in two minutes; writes nothing
  python -m bench profile                what each layer of the server costs one call, without sockets
  make bench ARGS="--only unary"         the same in the project's environment

exit code: 0 measured (goals met or not), 1 a server gave wrong replies, 2 something is missing here.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for; return the exit code."""
    options = _parser().parse_args(arguments)
    effort = Effort(options.rounds or (2 if options.quick else 5), 0.2 if options.quick else 1.0)
    console = report.console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with identity.known():
            if options.what == "profile":
                from bench import layers  # noqa: PLC0415 - not needed elsewhere

                report.show(layers.profile(effort), console)
                return 0
            _measure(options, effort, console)
    except WrongReply as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except NotMeasured as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped", file=sys.stderr)
        return 130
    return 0


def _measure(options: argparse.Namespace, effort: Effort, console: Console) -> None:
    told = " · ".join(f"{name} {value}" for name, value in (report.machine() | report.versions()).items())
    console.print(told, style="dim", highlight=False, soft_wrap=True)
    progress, done = Console(stderr=True), []
    for name in options.only:
        with progress.status(f"{name}: {effort.rounds} rounds …"):
            section = SECTIONS[name](effort)
        report.show(section, console)
        done.append(section)
        if options.json is None and not options.quick:
            report.write([section], RESULTS / f"{name}.json")
    if options.json is not None:
        report.write(done, options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", nargs="?", choices=("compare", "profile"), default="compare", help="default: compare")
    parser.add_argument("--only", type=_names, default=list(SECTIONS), metavar="A,B", help="these sections only")
    parser.add_argument("--rounds", type=_count, metavar="N", help="rounds of each (default: 5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests, two rounds, nothing is kept")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write all figures to this file instead")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    wrong = [name for name in names if name not in SECTIONS]
    if wrong:
        raise argparse.ArgumentTypeError(f"no section {', '.join(wrong)}; there are {', '.join(SECTIONS)}")
    return names


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number from 1 on")
    return int(text)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
