"""A bank as a process, until SIGTERM: `python -m tests.ledger.process PART DATABASE BROKER NOTES`.

PART is sender, quiet or receiver. NOTES is a directory of files with a line for each: `PART.delivered`, the id of each
delivered event before anything else is done with it; `sent`, account and number of each transfer behind its commit;
`refused`, what a transfer that did not come about was answered.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from interlock.data import Database
from interlock.errors import Error
from tests.ledger import banks


def notes(file: Path) -> Callable[[str], None]:
    """Return what adds a line to the file, at once and for other processes to see."""
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(line: str) -> None:
        os.write(opened, f"{line}\n".encode())

    return note


async def main(part: str, database_url: str, broker: str, directory: str) -> None:
    """Run the bank; a sender sends all the while, a quiet one is the same bank without."""
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    make = banks.Receiving if part == "receiver" else banks.Sending
    name = "receiver" if part == "receiver" else "sender"
    raw = banks.Raw(told=notes(Path(directory) / f"{name}.delivered"))
    bank, app = banks.app(make, Database(database_url), broker, raw)
    async with app:
        sending = [asyncio.create_task(_send(bank, Path(directory))) for _ in range(4 if part == "sender" else 0)]
        for task in sending:
            task.add_done_callback(lambda _: stop.set())  # it failed: tell why
        await stop.wait()
        failed = [task.exception() for task in sending if task.done()]
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    for error in failed:
        if error is not None:
            raise error


async def _send(bank: banks.Sending, directory: Path) -> None:
    sent, refused = notes(directory / "sent"), notes(directory / "refused")
    while True:
        try:
            account, number = await bank.send()
        except Error as error:  # the database is away for a moment
            refused(f"{error.code.name} {error.message}")
        else:
            sent(f"{account} {number}")
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
