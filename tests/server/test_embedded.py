"""`serving` and the sockets below it."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx2
import pytest
from grpc import aio

from interlock.server import StartError, serving
from interlock.server.sockets import close, listen
from tests.sample.gen.sample.v1.sample_pb import BlobRequest, BlobResponse
from tests.server.apps import make
from tests.server.processes import free_port


async def test_several_apps_share_a_loop() -> None:
    """Two apps are served in one loop, each on its own free port, with operations beside the first."""
    async with serving(make(), operations=True) as one, serving(make()) as two, httpx2.AsyncClient() as client:
        for address in (one, two):
            assert (await client.get(f"{address.url}/v1/echo/x")).status_code == 200
        assert (await client.get(f"{one.operations_url}/readyz")).status_code == 200
        assert not two.operations_url
        assert one.port != two.port


async def test_the_end_of_the_block_waits_for_calls_and_frees_the_port() -> None:
    """A call in flight is answered before the block is left; then nobody listens."""
    async with httpx2.AsyncClient() as client:
        async with serving(make()) as address:
            slow = asyncio.create_task(client.get(f"{address.url}/v1/slow?seconds=1"))
            await asyncio.sleep(0.2)
        assert (await slow).status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port), timeout=1)


async def test_a_block_may_cut_calls_sooner() -> None:
    """`drain_limit` of the block counts, not that of the settings."""
    async with httpx2.AsyncClient() as client, asyncio.timeout(5):
        async with serving(make(), drain_limit=0.2) as address:
            slow = asyncio.create_task(client.get(f"{address.url}/v1/slow?seconds=30"))
            await asyncio.sleep(0.2)
        assert (await slow).status_code == 503


async def test_ipv6_is_served() -> None:
    """An IPv6 address is bound and written as URLs want it."""
    try:
        async with serving(make(), host="::1") as address, httpx2.AsyncClient() as client:
            assert address.url == f"http://[::1]:{address.port}"
            assert (await client.get(f"{address.url}/v1/echo/x")).status_code == 200
    except StartError:
        pytest.skip("this machine has no IPv6 loopback")


async def test_a_body_over_the_limit_gets_the_apps_own_answer() -> None:
    """The server's caps stand above the app's, so 413 comes with our envelope."""
    async with serving(make()) as address, httpx2.AsyncClient() as client:

        async def body() -> AsyncIterator[bytes]:
            for _ in range(80):
                yield bytes(65536)

        reply = await client.post(
            f"{address.url}/v1/echo", content=body(), headers={"content-type": "application/json"}
        )
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "PAYLOAD_TOO_LARGE"


async def test_a_large_reply_passes_the_lowered_windows() -> None:
    """Upload windows are small, replies are not held by them."""
    async with serving(make()) as address, aio.insecure_channel(str(address)) as channel:
        blob = channel.unary_unary("/sample.v1.SampleService/Blob", BlobRequest.to_binary, BlobResponse.from_binary)
        assert len((await blob(BlobRequest(size=3 << 20))).data) == 3 << 20


def test_a_host_name_binds_every_address_on_one_port() -> None:
    """`localhost` may be several addresses: all get the same port, also when it is a free one."""
    bound = listen("localhost", 0, "port")
    try:
        assert len({each.getsockname()[1] for each in bound}) == 1
    finally:
        close(bound)


@pytest.mark.parametrize(
    "host,told", [("203.0.113.1", "is no address of this machine"), ("nowhere.invalid", "INTERLOCK_HOST")]
)
def test_a_wrong_host_names_the_setting(host: str, told: str) -> None:
    """An address that is not ours says what to set."""
    with pytest.raises(StartError, match=told):
        listen(host, free_port(), "port")
