from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from interlock.events.broker import Broker, open_broker
from tests.events.broker_suite import BrokerSuite


class TestMemory(BrokerSuite):
    @pytest.fixture
    async def make(self) -> AsyncIterator[Callable[[], Awaitable[Broker]]]:
        broker = open_broker("memory:")

        async def make() -> Broker:
            return broker

        yield make
        await broker.stop()
