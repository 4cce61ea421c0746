"""Plain publishing and consuming on NATS JetStream: ours, and FastStream beside it on the same server."""

import json
import sys
from collections import defaultdict

from bench import plain
from bench.figures import Effort, Section, ratios
from bench.load import Measured
from bench.processes import Cores, NotMeasured, on, output_of
from interlock.testing.nats_server import nats_server
from interlock.testing.servers import NoServer

OURS, THEIRS = "interlock", "faststream"
EVENTS = 10_000


def faststream(effort: Effort) -> Section:
    """Measure the process that publishes and the one that consumes, each library in turn."""
    section = Section(
        "faststream",
        "Plain events on NATS JetStream: no outbox, no inbox",
        f"{plain.PAYLOAD} bytes an event, {plain.AT_ONCE} at a time, each confirmed by the server and acknowledged "
        "behind its handler; ours with its whole stack (contract checked, order per key, attempts, traces, metrics), "
        "FastStream with pydantic and its log off; CPU of that process alone, the server has the other core",
    )
    found: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    cores, events = Cores.available(), effort.of(EVENTS)
    try:
        with on(cores.server):
            server = nats_server()
            url = server.__enter__()
    except NoServer as reason:
        raise NotMeasured(str(reason)) from reason
    try:
        for number in range(effort.rounds):
            for name in (OURS, THEIRS):
                for what in ("publish", "consume"):
                    command = [sys.executable, "-m", f"bench.plain.{name}", what, url, f"r{number}{name}", str(events)]
                    found[name, what].append(Measured(**json.loads(output_of(command, 300, cores.load))))
    finally:
        server.__exit__(None, None, None)
    for what in ("publish", "consume"):
        for name in (OURS, THEIRS):
            rounds = found[name, what]
            section.add(name, f"{what}, CPU", "µs/event", [each.cpu for each in rounds])
            section.add(name, what, "events/s", [each.rate for each in rounds])
        ours, theirs = ([each.cpu for each in found[name, what]] for name in (OURS, THEIRS))
        section.add(OURS, f"{what}, CPU/theirs", "×", ratios(ours, theirs))
    return section
