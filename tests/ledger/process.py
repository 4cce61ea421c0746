"""A bank as a process, until SIGTERM: `python -m tests.ledger.process PART DATABASE BROKER DELIVERIES`.

PART is sender, quiet or receiver. DELIVERIES is a file to which the id of each delivered event is appended, before
anything else is done with it.
"""

import asyncio
import os
import signal
import sys
from contextlib import suppress

from interlock.data import Database
from interlock.errors import Error
from tests.ledger import banks


async def main(part: str, database_url: str, broker: str, deliveries: str) -> None:
    """Run the bank; a sender sends all the while, a quiet one is the same bank without."""
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    file = os.open(deliveries, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    raw = banks.Raw(told=lambda event: os.write(file, f"{event}\n".encode()))
    make = banks.Receiving if part == "receiver" else banks.Sending
    bank, app = banks.app(make, Database(database_url), broker, raw)
    async with app:
        sending = [asyncio.create_task(_send(bank)) for _ in range(4 if part == "sender" else 0)]
        await stop.wait()
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)


async def _send(bank: banks.Sending) -> None:
    while True:
        with suppress(Error):  # the database is away for a moment
            await bank.send()
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
