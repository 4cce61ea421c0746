"""A process that consumes, until SIGTERM or `killer`: `-m tests.events.listening_process BROKER_URL DATABASE`."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from interlock.call import Call
from interlock.events.brokers.embedded import EmbeddedBroker
from tests.events.listening import Listener, consumer, opened, running, short_leased
from tests.sample.gen.sample.v1.sample_pb import EchoMade


async def main(url: str, path: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    broker = EmbeddedBroker(url.partition(":")[2], lease=0.5) if url.startswith("embedded:") else short_leased(url)
    await broker.start()
    async with opened(Path(path)) as database:

        async def handle(message: EchoMade, call: Call) -> None:
            if message.text == "killer":
                os.kill(os.getpid(), signal.SIGKILL)
            async with database.transaction() as tx:
                await tx.execute("INSERT INTO effect VALUES (:text)", {"text": message.text})
            await asyncio.sleep(0.01)  # so that a kill falls in between

        async with running(consumer(broker, Listener(handle), database=database)):
            await stop.wait()
    await broker.stop()


asyncio.run(main(*sys.argv[1:]))
