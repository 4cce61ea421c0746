"""Callers of RPCs over HTTP/1.1 who hang up while they wait: their call is cancelled, as over gRPC."""

import asyncio

import pytest

from interlock.server import serving
from tests.sample.gen.sample.v1.sample_pb import SlowRequest
from tests.sample.handlers import Sample, make
from tests.waiting import until

BODY = SlowRequest(seconds=60).to_binary()
FRAMED = b"\x00" + len(BODY).to_bytes(4, "big") + BODY


@pytest.mark.parametrize(
    "content_type, body",
    [
        ("application/proto", BODY),
        ("application/json", b'{"seconds": 60}'),
        ("application/grpc-web+proto", FRAMED),
    ],
    ids=["Connect", "Connect in JSON", "gRPC-Web"],
)
async def test_a_caller_who_hangs_up_cancels_its_call(content_type: str, body: bytes) -> None:
    """Long before the handler is done; a caller who stays is not touched."""
    sample = Sample()
    head = f"POST /sample.v1.SampleService/Slow HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    async with serving(make(sample), drain_limit=0.2) as address:
        _, stays = await asyncio.open_connection(address.host, address.port)
        _, leaves = await asyncio.open_connection(address.host, address.port)
        for writer in (stays, leaves):
            writer.write(request)
            await writer.drain()
        await asyncio.sleep(1)
        assert sample.cancelled == []
        leaves.close()
        await until(lambda: sample.cancelled == ["CLIENT_GONE"])
        await asyncio.sleep(0.5)
        assert sample.cancelled == ["CLIENT_GONE"]
        stays.close()
