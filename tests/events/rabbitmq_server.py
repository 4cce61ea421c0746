"""The RabbitMQ server that tests use: that at INTERLOCK_TEST_RABBITMQ, or the one that runs on this machine."""

import asyncio

import aio_pika
import pytest

from interlock.events.brokers.rabbitmq_topology import Topology
from interlock.testing.rabbitmq_server import rabbitmq_server
from interlock.testing.servers import NoServer

CHANNELS = 8


def running_url() -> str:
    """Return the server's URL; skips the test where there is none."""
    try:
        return rabbitmq_server().partition("?")[0]
    except NoServer as reason:
        pytest.skip(f"NOT TESTED on RabbitMQ: {reason}")


async def remove(url: str, name: str, *groups: str) -> None:
    """Remove what a platform of that name has on the server, over several channels at a time."""
    topology = Topology(name)
    queues = [topology.dead, *(each for group in groups for each in topology.queues(group))]
    connection = await aio_pika.connect(url)

    async def share(number: int) -> None:
        channel = await connection.channel()
        for each in queues[number::CHANNELS]:
            await channel.queue_delete(each)

    await (await connection.channel()).exchange_delete(topology.exchange)
    await asyncio.gather(*map(share, range(CHANNELS)))
    await connection.close()
