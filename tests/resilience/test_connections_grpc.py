"""Connections of a gRPC client to real servers: spread, balanced, left out, found again, and gone away."""

import asyncio
from itertools import chain, repeat

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, PingAckReceived

from interlock import Error, NotFound, RetryPolicy, Unavailable
from interlock.protocols.grpc_client import GrpcTransport
from interlock.resilience.circuit_breaker import counting
from interlock.server import serving
from tests.resilience.neighbours import Answer, answered, dns, gone_away, neighbours, raw_http2, refused
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make
from tests.waiting import until

ONCE = RetryPolicy(retries=0)
NEVER_OPENS = counting(max_failures=100_000)


def client_of(target: str, *, connections: int = 1, retries: RetryPolicy = ONCE) -> SampleServiceClient:
    """Return a client of any gRPC target, without retries of ours unless they are given."""
    transport = GrpcTransport(target, connections=connections)
    return SampleServiceClient(transport, retries=retries, breaker=NEVER_OPENS)


async def everyone_answers(client: SampleServiceClient, seen: list[set[str]]) -> None:
    """Call until each has answered: the connections are made one after another."""
    async with asyncio.timeout(20):
        while not all(seen):
            await client.echo()


async def test_all_addresses_take_turns() -> None:
    """Three addresses get a third of the calls each, and of the streams."""
    async with neighbours(3) as there, client_of(there.target) as client:
        await everyone_answers(client, [each.connections for each in there.all])
        there.counts()
        for _ in range(30):
            await client.echo()
        assert there.counts() == [10, 10, 10]
        streams = [client.count_up(count=2) for _ in range(6)]
        for each in streams:
            await anext(each)
        for each in streams:
            assert [reply.number async for reply in each] == [2]
        assert [each.finished for each in there.all] == [["count_up"] * 2] * 3


async def test_several_connections_to_each_address() -> None:
    """With `connections=2` there are two to each of two addresses, and calls use all four."""
    async with neighbours(2) as there, client_of(there.target, connections=2) as client:
        async with asyncio.timeout(20):
            while [len(each.connections) for each in there.all] != [2, 2]:
                await client.echo()
        there.counts()
        for _ in range(20):
            await client.echo()
        assert there.counts() == [10, 10]


async def test_one_that_fails_is_left_out_while_others_answer() -> None:
    """Callers see its errors for a few seconds, then it gets no more calls; what others refuse is theirs to refuse."""
    async with neighbours(3) as there, client_of(there.target) as client:
        await everyone_answers(client, [each.connections for each in there.all])
        there.all[1].sick = Unavailable("sick")
        in_a_row = 0
        async with asyncio.timeout(30):
            while in_a_row < 60:
                try:
                    await client.echo()
                    in_a_row += 1
                except Unavailable:
                    in_a_row = 0
                await asyncio.sleep(0.002)
        there.counts()
        for _ in range(30):
            await client.echo()
        assert there.counts() == [15, 0, 15]


async def test_where_all_fail_alike_most_stay() -> None:
    """However many calls end with NOT_FOUND, at least two of three addresses go on being asked."""
    async with neighbours(3) as there, client_of(there.target) as client:
        await everyone_answers(client, [each.connections for each in there.all])
        for each in there.all:
            each.sick = NotFound("never heard of it")
        ended = asyncio.get_running_loop().time() + 3.0  # longer than the interval of the ejection
        while asyncio.get_running_loop().time() < ended:
            with pytest.raises(NotFound):
                await client.echo()
            await asyncio.sleep(0.005)
        there.counts()
        for _ in range(30):
            with pytest.raises(NotFound):
                await client.echo()
        assert sum(count > 0 for count in there.counts()) >= 2


async def test_a_name_is_all_its_addresses_and_looked_up_again() -> None:
    """Each address of a name gets calls; when one goes away the name's new address is found, and no call fails."""
    async with neighbours(3) as there, dns(there.hosts[:2]) as (server, port):
        target = f"dns://127.0.0.1:{port}/orders.test:{there.port}"
        async with client_of(target, retries=RetryPolicy()) as client:
            await everyone_answers(client, [each.connections for each in there.all[:2]])
            assert not there.all[2].connections
            server.addresses = there.hosts[1:]
            await there.stop(there.all[0])
            async with asyncio.timeout(20):
                while not there.all[2].connections:
                    await client.list_things()
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize("answers", [[gone_away], [refused], [gone_away, refused]], ids=["goaway", "reset", "both"])
async def test_a_call_that_no_server_took_is_sent_again(answers: list[Answer]) -> None:
    """Behind a GOAWAY, or refused, even a call that must not run twice is made: once by grpcio, then by our retry."""
    async with raw_http2(chain(answers, repeat(answered))) as target, SampleServiceClient(target) as client:
        assert (await client.using(timeout=20).echo()).text == "here"


async def test_what_was_refused_twice_is_known_to_be_unsent() -> None:
    """Without retries the error says that nothing ran."""
    async with raw_http2(repeat(refused)) as target, client_of(target) as client:
        with pytest.raises(Error) as raised:
            await client.using(timeout=20).echo()
    assert raised.value.unsent


async def test_headers_right_before_the_end_are_not_lost() -> None:
    """Streams without a message, many at a time, have the metadata of their heads as well as that of their ends."""
    async with serving(make()) as address, client_of(str(address)) as client:

        async def empty() -> tuple[str | None, str | None]:
            stream = client.count_up(count=0)
            assert [each async for each in stream] == []
            return stream.headers.get("x-test-counting"), stream.trailers.get("x-test-counted")

        for _ in range(20):
            assert set(await asyncio.gather(*(empty() for _ in range(16)))) == {("up", "0")}


async def test_pings_are_welcome() -> None:
    """Our server answers every ping of a connection without calls, however often, and does not go away for it."""
    async with serving(make()) as address:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        http = H2Connection(H2Configuration())
        http.initiate_connection()
        events: list[object] = []

        async def listen() -> None:
            while data := await reader.read(65536):
                events.extend(http.receive_data(data))
                writer.write(http.data_to_send())

        listening = asyncio.create_task(listen())
        for number in range(50):
            http.ping(number.to_bytes(8))
            writer.write(http.data_to_send())
            await asyncio.sleep(0.001)
        await until(lambda: sum(isinstance(each, PingAckReceived) for each in events) == 50)
        assert not any(isinstance(each, ConnectionTerminated) for each in events)
        assert not listening.done()
        listening.cancel()
        writer.close()
