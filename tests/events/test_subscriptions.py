from typing import Any

import pytest

from interlock.call import Call
from interlock.events.subscriptions import subscriptions
from tests.events.listening import CONTRACT, Listener
from tests.sample.gen.sample.v1.sample_pb import EchoMade
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_LISTENER

SERVICE = CONTRACT.service(SAMPLE_LISTENER.name)


class Blocking:
    def on_echo_made(self, event: EchoMade, call: Call) -> None:
        pass


def test_each_subscription_is_an_operation() -> None:
    """A subscription has a path, a name in Python, the generated class and a timeout."""
    ((operation, _),) = subscriptions(SERVICE, CONTRACT.events, Listener())
    assert operation.path == "/sample.v1.SampleListener/echo.made"
    assert operation.python_name == "on_echo_made"
    assert operation.request_type is EchoMade
    assert operation.timeout is not None


@pytest.mark.parametrize("owner, says", [(object(), "missing"), (Blocking(), "async def")])
def test_a_method_that_does_not_fit_is_refused(owner: Any, says: str) -> None:
    """A handler that is missing or blocks is refused at start by its name."""
    with pytest.raises(TypeError, match=rf"on_echo_made .*{says}"):
        subscriptions(SERVICE, CONTRACT.events, owner)


def test_an_event_that_no_contract_knows_is_refused() -> None:
    """A subscription whose message is unknown could never be consumed, so it is told at start."""
    with pytest.raises(LookupError, match=r"echo\.made"):
        subscriptions(SERVICE, [], Listener())
