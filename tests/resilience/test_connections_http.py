"""Connections of a Connect client to a name with several real servers behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import trustme

from interlock import RetryPolicy, Tls, Unavailable
from interlock.protocols.connect_client import ConnectTransport
from interlock.protocols.http_balance import (
    FAILURES,
    LEFT_OUT,
    LONGEST_OUT,
    LOOK_AFTER_LOSS,
    LOOK_AGAIN,
    Balance,
    Standing,
)
from interlock.protocols.http_pool import PoolLimits, Pools
from interlock.resilience.circuit_breaker import counting
from interlock.server import serving
from interlock.server.embedded import Tls as ServerTls
from tests.resilience.ground import ManualClock
from tests.resilience.neighbours import Neighbour, neighbours
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make
from tests.waiting import until

ONCE = RetryPolicy(retries=0)
NEVER_OPENS = counting(max_failures=100_000)


class Names:
    """The only name there is, and its addresses, which may change."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self.asked = 0

    async def __call__(self, name: str, _port: int) -> list[str]:
        """Look it up."""
        self.asked += 1
        if name != "orders.test":
            raise OSError("no such name")
        return list(self.addresses)


def client_of(
    names: Names, port: int, *, scheme: str = "http", retries: RetryPolicy = ONCE, tls: Tls | None = None
) -> SampleServiceClient:
    """Return a client of the name, with a pool of its own."""
    url, pools = f"{scheme}://orders.test:{port}", Pools(resolve=names)
    return SampleServiceClient(ConnectTransport(url, tls=tls, pools=pools), retries=retries, breaker=NEVER_OPENS)


async def test_all_addresses_take_turns_over_few_connections() -> None:
    """Each address gets a third of the calls, streams too, over the connection that is there already."""
    async with neighbours(3) as there, client_of(Names(there.hosts), there.port) as client:
        for _ in range(30):
            await client.echo()
        assert there.counts() == [10, 10, 10]
        for _ in range(6):
            assert len([each async for each in client.count_up(count=2)]) == 2
        assert [each.finished for each in there.all] == [["count_up"] * 2] * 3
        assert [len(each.connections) for each in there.all] == [1, 1, 1]


async def test_calls_at_once_have_connections_at_once() -> None:
    """Twelve calls side by side are on twelve connections, spread alike; ten of them are kept for the next."""
    async with neighbours(2) as there, client_of(Names(there.hosts), there.port) as client:
        slow = [asyncio.create_task(client.slow(seconds=0.2)) for _ in range(12)]
        await asyncio.gather(*slow)
        assert [each.finished for each in there.all] == [["slow"] * 6] * 2


async def test_what_can_not_be_connected_to_costs_no_call() -> None:
    """An address where nobody listens is passed over, whatever the operation; once somebody does it gets its turns."""
    async with neighbours(3) as there, client_of(Names(there.hosts), there.port) as client:
        await there.stop(there.all[1])
        for _ in range(30):
            await client.echo()
        first, none, third = there.counts()
        assert (first + third, none) == (30, 0)
        await there.start(there.all[1])
        async with asyncio.timeout(20):
            while not there.all[1].calls:
                await client.echo()
                await asyncio.sleep(0.01)


async def test_half_of_them_stay_however_they_fail() -> None:
    """Where all fail, the caller gets their errors, not one of ours; half of the addresses are asked."""
    async with neighbours(4) as there, client_of(Names(there.hosts), there.port) as client:
        for each in there.all:
            each.sick = Unavailable("sick")
        for _ in range(100):
            with pytest.raises(Unavailable, match="sick"):
                await client.echo()
        assert sum(count > 20 for count in there.counts()) == 2


def engine(idle: int = 10) -> httpx2.AsyncHTTPTransport:
    """Return connections to one address."""
    return httpx2.AsyncHTTPTransport(trust_env=False, limits=httpx2.Limits(max_keepalive_connections=idle))


@asynccontextmanager
async def balance(names: Names, port: int, clock: ManualClock) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Give what asks one of the name's addresses, and returns the status."""
    spread = Balance("orders.test", port, idle=10, connect=engine, resolve=names, clock=clock)

    async def ask() -> int:
        request = httpx2.Request("GET", f"http://orders.test:{port}/v1/echo/x")
        response = await spread.handle_async_request(request)
        assert request.url.host == "orders.test"
        await response.aread()
        await response.aclose()
        return response.status_code

    yield ask
    await spread.aclose()


async def test_one_that_fails_is_left_out_for_a_while() -> None:
    """After five failures it gets no call until its time is over, and keeps its turns once it answers."""
    async with neighbours(3) as there:
        clock = ManualClock()
        async with balance(Names(there.hosts), there.port, clock) as ask:
            there.all[1].sick = Unavailable("sick")
            assert [await ask() for _ in range(3 * FAILURES)].count(503) == FAILURES
            there.counts()
            assert {await ask() for _ in range(20)} == {200}
            assert there.counts() == [10, 0, 10]
            there.all[1].sick = None
            clock.now += LEFT_OUT
            assert {await ask() for _ in range(30)} == {200}
            assert there.counts() == [10, 10, 10]


async def test_a_lost_address_is_looked_up_at_once() -> None:
    """The only address goes away, the name has a new one: the call that notices is made there."""
    async with neighbours(2) as there:
        names, clock = Names(there.hosts[:1]), ManualClock()
        async with balance(names, there.port, clock) as ask:
            await ask()
            names.addresses = there.hosts[1:]
            await there.stop(there.all[0])
            clock.now += LOOK_AFTER_LOSS
            assert await ask() == 200
            assert there.counts() == [1, 1]


async def test_a_name_in_use_is_looked_up_now_and_then() -> None:
    """After half a minute new addresses get calls, and connections to those that are gone are closed."""
    async with neighbours(3) as there:
        names, clock = Names(there.hosts[:2]), ManualClock()
        async with balance(names, there.port, clock) as ask:
            for _ in range(4):
                await ask()
            names.addresses = there.hosts[1:]
            for _ in range(4):
                await ask()
            assert there.counts() == [4, 4, 0]
            clock.now += LOOK_AGAIN
            await ask()  # starts it, and does not wait for it
            await until(lambda: names.asked == 2)
            there.counts()
            for _ in range(4):
                await ask()
            assert there.counts() == [0, 2, 2]


async def test_more_addresses_than_idle_connections() -> None:
    """The bound of idle connections holds: of more addresses so many are used."""
    async with neighbours(4) as there:
        pools = Pools(PoolLimits(idle_per_host=2), resolve=Names(there.hosts))
        transport = ConnectTransport(f"http://orders.test:{there.port}", pools=pools)
        async with SampleServiceClient(transport, retries=ONCE) as client:
            for _ in range(12):
                await client.echo()
        assert sorted(there.counts()) == [0, 0, 6, 6]


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 64 + ".invalid"])
async def test_a_name_that_nobody_has_is_told(name: str) -> None:
    """It is UNAVAILABLE, names the name, and nothing was sent."""
    async with SampleServiceClient(ConnectTransport(f"http://{name}:1", pools=Pools()), retries=ONCE) as client:
        with pytest.raises(Unavailable, match=name) as raised:
            await client.echo()
    assert raised.value.unsent


@pytest.fixture
def authority() -> trustme.CA:
    """An authority of this test's own."""
    return trustme.CA()


def files_of(authority: trustme.CA, name: str, directory: Path) -> tuple[ServerTls, Tls]:
    """Write a certificate for `name`; return what serves it and what verifies it."""
    issued = authority.issue_cert(name)
    certificate, key, authorities = (directory / each for each in ("cert.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(authorities)
    return ServerTls(certificate=certificate, key=key), Tls(authorities=authorities)


async def test_certificates_are_the_names(authority: trustme.CA, tmp_path: Path) -> None:
    """TLS is verified for the name, whichever address answers; one that never greets is passed over in 2 s."""
    server_tls, tls = files_of(authority, "orders.test", tmp_path)
    there = Neighbour("127.0.0.1")
    held: list[asyncio.StreamWriter] = []
    async with serving(make(there), tls=server_tls) as address:
        silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.2", address.port)
        async with client_of(Names(["127.0.0.2", "127.0.0.1"]), address.port, scheme="https", tls=tls) as client:
            for _ in range(4):
                await client.using(timeout=20).echo()
        assert there.calls == 4
        assert len(held) == 1
        for each in held:
            each.close()
        silent.close()
        await silent.wait_closed()


async def test_another_names_certificate_is_refused(authority: trustme.CA, tmp_path: Path) -> None:
    """Who answers at the address must have a certificate for the name that was asked for."""
    server_tls, tls = files_of(authority, "payments.test", tmp_path)
    async with (
        serving(make(), tls=server_tls) as address,
        client_of(Names(["127.0.0.1"]), address.port, scheme="https", tls=tls) as client,
    ):
        with pytest.raises(Unavailable, match=r"certificate.*orders\.test"):
            await client.echo()


def test_an_address_is_left_out_for_longer_each_time_until_it_answers() -> None:
    """A failure while it is left out says nothing new; the first one after doubles the time; an answer forgets it."""
    standing, now = Standing(), 100.0
    for _ in range(FAILURES - 1):
        standing.failed(now)
    assert standing.out_until == 0.0
    for times in range(8):
        standing.failed(now)
        wait = min(LONGEST_OUT, LEFT_OUT * 2**times)
        assert standing.out_until == now + wait
        standing.failed(now + wait / 2, unreachable=True)
        assert standing.out_until == now + wait
        now += wait
    standing.answered()
    standing.failed(now)
    assert standing.out_until == 0.0
    standing.failed(now, unreachable=True)
    assert standing.out_until == now + LEFT_OUT
