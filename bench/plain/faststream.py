"""FastStream's NATS broker on a JetStream stream, its messages checked by pydantic, its log off."""

import sys

import uvloop
from faststream.nats import JStream, NatsBroker, PullSub
from pydantic import BaseModel

from bench import plain


class TransferSent(BaseModel):
    account: str
    number: int
    amount: int
    memo: str


MEMO = "m" * (
    plain.PAYLOAD - len(TransferSent(account="account-10", number=1000, amount=1, memo="").model_dump_json().encode())
)


async def main(what: str, url: str, name: str, events: str) -> None:
    meter = plain.Meter(int(events))
    broker = NatsBroker(url, logger=None)
    subject = f"{name}.transfer.sent"
    stream = JStream(name, subjects=[subject])

    if what == "publish":
        publisher = broker.publisher(subject, stream=stream)

        async def one(number: int) -> None:
            account = f"account-{number % plain.KEYS}"
            await publisher.publish(TransferSent(account=account, number=number, amount=1, memo=MEMO))

        await broker.start()
        await plain.publish(meter, one)
    else:
        # pulled, durable and in batches, as its documentation recommends; a message is acknowledged behind its handler
        @broker.subscriber(
            subject, stream=stream, durable="receiving", pull_sub=PullSub(batch_size=100), max_workers=plain.AT_ONCE
        )
        async def on_transfer_sent(event: TransferSent) -> None:
            meter.event()

        await broker.start()
        await meter.done.wait()
    await broker.stop()


uvloop.run(main(*sys.argv[1:]))
