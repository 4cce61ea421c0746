"""A service that puts what it should keep to itself into its exceptions and logs."""

import logging

from interlock import App, Call, Url
from interlock.security.secret import Secret
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.handlers import Sample

log = logging.getLogger("careless")


class Careless(Sample):
    """Fails with all that it has at hand."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    async def whisper(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Fail."""
        password, place = Secret(self.settings.accounts_pepper.get_secret_value()), Url(self.settings.broker.reveal())
        log.warning("here is %s for %s", password, place, extra={"given": password, "token": place.reveal()})
        log.warning("asked by %r with %r: %r", call.principal, call.metadata, self.settings)
        raise RuntimeError(f"no {password!r} at {place}; {self.settings!r}, {call.principal!r}, {call.metadata!r}")


def make() -> App:
    """Make it."""
    settings = Settings()
    return App(Careless(settings), settings=settings)
