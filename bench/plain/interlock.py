"""Ours: an app with its whole default stack, but for the access log."""

import sys

import uvloop

from bench import plain
from interlock import App, Call
from interlock.settings import Settings
from tests.ledger.gen.ledger.v1.ledger_pb import TransferReceived, TransferSent
from tests.ledger.gen.ledger.v1.ledger_rpc import ReceivingBank, SendingBank

MEMO = "m" * (plain.PAYLOAD - len(TransferSent(account="account-10", number=1000, amount=1, memo="m").to_binary()))


class Sending(SendingBank):
    async def on_transfer_received(self, event: TransferReceived, call: Call) -> None:
        raise AssertionError


class Receiving(ReceivingBank):
    def __init__(self, meter: plain.Meter) -> None:
        self._meter = meter

    async def on_transfer_sent(self, event: TransferSent, call: Call) -> None:
        self._meter.event()


async def main(what: str, url: str, stream: str, events: str) -> None:
    meter = plain.Meter(int(events))
    bank = Sending() if what == "publish" else Receiving(meter)
    settings = Settings(log_level="error", token_issuer="bench")
    app = App(bank, broker=f"{url}?stream={stream}", settings=settings, access_log=False)

    async def one(number: int) -> None:
        account = f"account-{number % plain.KEYS}"
        await app.publish(TransferSent(account=account, number=number, amount=1, memo=MEMO))

    async with app:
        await (plain.publish(meter, one) if what == "publish" else meter.done.wait())


uvloop.run(main(*sys.argv[1:]))
