"""The sample app as the attacked worker serves it."""

import os

from interlock import App, Call
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.handlers import Sample


class Attacked(Sample):
    """Echoes, and its process id for `pid`."""

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        if request.text == "pid":
            return EchoResponse(text=str(os.getpid()))
        return await super().echo(request, call)


def make() -> App:
    """Make the app with what an App has by default."""
    return App(Attacked(), settings=Settings())
