"""Ours, gRPC and REST on one port: the full default stack of App, in the runner behind `interlock serve`."""

import os
import sys

from bench import reference
from bench.servers import port
from interlock import App
from interlock.server import serve
from interlock.settings import Settings


def make() -> App:
    """Make the app; access log (JSON lines, to stderr), deadlines, validation are what an App has by default."""
    return App(reference.handler(), settings=Settings(trace_ratio=0.01))


if __name__ == "__main__":
    workers = sys.argv[2] if len(sys.argv) > 2 else "1"
    os.environ |= {"INTERLOCK_PORT": str(port()), "INTERLOCK_OPERATIONS_PORT": "0", "INTERLOCK_WORKERS": workers}
    sys.exit(serve("bench.servers.interlock:make"))
