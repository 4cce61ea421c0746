"""The servers that are measured: each a program, `python -m bench.servers.NAME PORT`, that serves until SIGTERM."""

import asyncio
import sys
from typing import Any


def port() -> int:
    """Return the port that the program was given."""
    return int(sys.argv[1])


def on_h2corn(app: Any) -> None:
    """Serve a bare ASGI app, as our own server does: h2corn on uvloop."""
    import h2corn  # noqa: PLC0415 - for two of the programs only
    import uvloop  # noqa: PLC0415

    config = h2corn.Config(bind=(f"127.0.0.1:{port()}",), grpc=True, lifespan="off", access_log=False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(h2corn.Server(app, config).serve())
