"""Apps that the processes under test serve."""

import asyncio
import os

from interlock import App, Call
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.handlers import Sample

not_a_function = 3


class Answering(Sample):
    """Echoes the process id for `pid`, and ends or blocks its process when told."""

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Do what the text says."""
        if request.text == "pid":
            return EchoResponse(text=str(os.getpid()))
        if request.text == "block":
            import time

            time.sleep(30)  # noqa: ASYNC251 - the mistake that is to be found out
        return EchoResponse(text=request.text)


def make() -> App:
    """Make a sound app."""
    return App(Answering(), settings=Settings())


async def asynchronous() -> App:
    """Be async, which a factory must not be."""
    return make()


def wrong() -> dict[str, str]:
    """Make no app."""
    return {}


def failing() -> App:
    """Fail in the user's code."""
    raise RuntimeError("the flux is missing")


def unsettled() -> App:
    """Miss a setting of its own."""

    class Own(Settings):
        database_url: str

    return App(Answering(), settings=Own())


def never_ready() -> App:
    """Start for longer than anybody waits."""
    return App(Answering(), settings=Settings(), on_start=[lambda: asyncio.sleep(60)])


def own_port() -> App:
    """Say too late where to listen."""
    return App(Answering(), settings=Settings(port=9))
