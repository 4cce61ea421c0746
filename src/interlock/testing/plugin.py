"""The pytest plugin: fixtures for services made with Interlock; pytest loads it wherever Interlock is installed.

It imports nothing of Interlock before a fixture is used. A fixture of the same name in a test suite's own conftest
takes the place of one of these.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture as asynchronous
except ImportError:  # another plugin runs async tests, and its own fixtures are plain
    asynchronous = pytest.fixture  # type: ignore[assignment]  # used in the same way

if TYPE_CHECKING:
    from interlock.events.brokers.memory import MemoryBroker
    from interlock.testing import Apps, Certificates, Clock, Events, FaultyProxy, Keyring, Platforms, Surroundings


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> "Keyring":
    """Keys that services under test verify tokens with, and tokens signed with them: `keys.token("operator")`."""
    from interlock.testing.keyring import Keyring

    return Keyring(tmp_path_factory.mktemp("interlock") / "keys")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> "Certificates":
    """Certificates for servers and clients; needs `trustme`."""
    pytest.importorskip("trustme", reason="NOT TESTED with TLS: `pip install trustme`")
    from interlock.testing.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def surroundings(tmp_path: Path, keys: "Keyring") -> "Surroundings":
    """Where services under test keep what they keep: below the test's `tmp_path`."""
    from interlock.testing.surroundings import Surroundings

    return Surroundings(directory=tmp_path, keys=keys)


@asynchronous
async def app(surroundings: "Surroundings") -> AsyncIterator["Apps"]:
    """Start apps that end with the test: `served = await app(make)`, on a port with `port=True`."""
    from interlock.testing.apps import Apps

    async with AsyncExitStack() as stack:
        yield Apps(stack, surroundings)


@asynchronous
async def platform(surroundings: "Surroundings") -> AsyncIterator["Platforms"]:
    """Start a platform that ends with the test: `shop = await platform("shop.platform:platform", split=True)`."""
    from interlock.testing.platforms import Platforms

    async with AsyncExitStack() as stack:
        yield Platforms(stack, surroundings)


@asynchronous
async def proxy() -> AsyncIterator["Callable[[str, int], Awaitable[FaultyProxy]]"]:
    """Put a proxy that can fail before a server: `between = await proxy(host, port)`; it ends with the test."""
    from interlock.testing.proxy import FaultyProxy

    async with AsyncExitStack() as stack:

        async def put(host: str, port: int) -> "FaultyProxy":
            return await stack.enter_async_context(FaultyProxy(host, port))

        yield put


@pytest.fixture
def clock() -> "Clock":
    """A clock that passes when told to."""
    from interlock.testing.clock import Clock

    return Clock()


@asynchronous
async def events() -> "Events":
    """What happens to events on `broker`: `events.published(OrderCreated)`, `await events.settled()`."""
    from interlock.testing.events import Events

    return Events()


@pytest.fixture
def broker(events: "Events") -> "MemoryBroker":
    """A broker in memory, for an app that is given one: `await app(make, broker=broker)` calls `make(broker=…)`."""
    return events.broker


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of a NATS server of the tests' own; a test that needs it is skipped, loudly, where none can start."""
    from interlock.testing.nats_server import nats_server
    from interlock.testing.servers import NoServer

    server = nats_server()
    try:
        url = server.__enter__()
    except NoServer as reason:
        pytest.skip(f"NOT TESTED on NATS: {reason}")
    yield url
    server.__exit__(None, None, None)


@pytest.fixture
def rabbitmq_url() -> str:
    """The URL of a RabbitMQ server, with names of the test's own; the test is skipped, loudly, where there is none."""
    from interlock.testing.rabbitmq_server import rabbitmq_server
    from interlock.testing.servers import NoServer

    try:
        return rabbitmq_server()
    except NoServer as reason:
        pytest.skip(f"NOT TESTED on RabbitMQ: {reason}")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a fresh SQLite file."""
    return f"sqlite:///{tmp_path}/test.db"


@asynchronous
async def postgresql_url() -> AsyncIterator[str]:
    """The URL of a fresh PostgreSQL database; the test is skipped, loudly, where there is no server."""
    pytest.importorskip("asyncpg", reason="NOT TESTED on PostgreSQL: `pip install interlock[postgres]`")
    from interlock.testing.postgresql import postgresql_databases
    from interlock.testing.servers import NoServer

    async with AsyncExitStack() as stack:
        try:
            template = await stack.enter_async_context(postgresql_databases())
        except NoServer as reason:
            pytest.skip(f"NOT TESTED on PostgreSQL: {reason}")
        yield template.format(name="test")
