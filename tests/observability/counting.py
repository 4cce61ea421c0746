"""A worker that counts: `python -m tests.observability.counting DIRECTORY SLOT COUNT`, then waits to be ended.

It says `ready` once COUNT calls are in its snapshot, and at the end of its input stops as a worker does.
"""

import asyncio
import sys
from pathlib import Path

from interlock.call import Call
from interlock.observability.metrics import Metrics
from interlock.observability.snapshots import Snapshots
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE


async def main(directory: str, slot: str, count: str) -> None:
    """Count and wait."""
    operation = SAMPLE_SERVICE.operation(ECHO)
    metrics = Metrics("orders", shared=Snapshots(Path(directory), "orders", slot), interval=0.02)
    metrics.gauge("service_requests_in_flight", "Calls that run now.", lambda: 7)
    record = metrics.served(operation)
    for _ in range(int(count)):
        call = Call(operation, protocol="grpc")
        call.on_end(record)
        call.end()
    await metrics.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await metrics.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
