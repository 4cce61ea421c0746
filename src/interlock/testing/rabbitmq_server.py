"""The RabbitMQ server that tests use: that at INTERLOCK_TEST_RABBITMQ, or the one of this machine."""

import os
from importlib.util import find_spec

from interlock.call import uuid7
from interlock.testing.servers import NoServer, answers

PLACE = ("127.0.0.1", 5672)

VANISHES = 300
"""Seconds after which the server removes what a test left there."""


def rabbitmq_server() -> str:
    """Return a URL with names of its own, which vanish some minutes after the test; NoServer tells how to start one."""
    if find_spec("aio_pika") is None:
        raise NoServer("`pip install interlock[rabbitmq]`")
    url = os.environ.get("INTERLOCK_TEST_RABBITMQ", "")
    if not url and answers(*PLACE):
        url = f"amqp://guest:guest@{PLACE[0]}:{PLACE[1]}/"
    if not url:
        raise NoServer(
            "start `rabbitmq-server`, or a container of rabbitmq with port 5672, "
            "or set INTERLOCK_TEST_RABBITMQ=amqp://user:password@host:5672/"
        )
    return f"{url}?name=t{uuid7()}&expires={VANISHES}"
