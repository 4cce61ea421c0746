"""The bounds of the REST door, met on a real port: refusals in the envelope, others answered, the worker the same."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest
from grpc import StatusCode, aio

from interlock.server import Address, serving
from tests.protocols.documents import AT, VERSIONS, Documents, message, speaking

LIMITS = {
    "request_bytes": "64KiB",
    "header_bytes": "4KiB",
    "header_fields": 40,
    "json_depth": 20,
    "query_parameters": 9,
}


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    documents = Documents()
    documents.keep(message("Document")(id="d", text="text"))
    async with serving(documents.app(**LIMITS)) as address:
        yield address


@pytest.fixture(params=VERSIONS)
async def client(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[httpx2.AsyncClient]:
    async with speaking(request.param, address.url) as client:
        yield client
        async with httpx2.AsyncClient(base_url=address.url) as other:
            assert (await other.get(f"{AT}/d")).status_code == 200  # whatever the test did, others are answered


def told(answer: httpx2.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["meta"]["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["error"]["code"]


async def test_an_upload_of_any_size_sees_its_refusal(client: httpx2.AsyncClient) -> None:
    for size in (100_000, 5_000_000, 40_000_000):
        answer = await client.put(f"{AT}/d/bytes", content=b"x" * size)
        assert told(answer) == (413, "PAYLOAD_TOO_LARGE")
    assert told(await client.post("/nowhere", content=b"x" * 5_000_000)) == (404, "NOT_FOUND")

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 50_000

    assert told(await client.put(f"{AT}/d/bytes", content=pieces())) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_curl_sees_the_refusal_of_40_megabytes(address: Address, version: str) -> None:
    for expect in ((), ("-H", "Expect:")):
        process = await asyncio.create_subprocess_exec(
            "curl", "-s", "-w", "%{http_code}", version, *expect, "-X", "PUT", "--data-binary", "@-",
            f"{address.url}{AT}/d/bytes", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(b"x" * 40_000_000), 60)
        assert process.returncode == 0
        assert b'"code":"PAYLOAD_TOO_LARGE"' in out
        assert out.endswith(b"413")


async def test_a_bomb_is_refused_unexploded(client: httpx2.AsyncClient) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    answer = await client.put(f"{AT}/d/bytes", content=bomb, headers={"content-encoding": "gzip"})
    assert told(answer) == (413, "PAYLOAD_TOO_LARGE")
    broken = await client.put(f"{AT}/d/bytes", content=b"\x1f\x8bno", headers={"content-encoding": "gzip"})
    assert told(broken) == (400, "VALIDATION_ERROR")
    unknown = await client.put(f"{AT}/d/bytes", content=b"x", headers={"content-encoding": "compress"})
    assert told(unknown) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert "gzip" in unknown.headers["accept-encoding"]


@pytest.mark.parametrize(
    "headers", [[("x-a", "y" * 5000)], [(f"x-{number}", "y") for number in range(50)], [("x-a", "y" * 900)] * 5]
)
async def test_heads_are_bounded(client: httpx2.AsyncClient, headers: Sequence[tuple[str, str]]) -> None:
    assert told(await client.get(f"{AT}/d", headers=list(headers))) == (431, "HEADERS_TOO_LARGE")
    assert told(await client.get(f"{AT}/" + "x" * 5000)) == (431, "HEADERS_TOO_LARGE")
    head = await client.head(f"{AT}/d", headers=list(headers))
    assert (head.status_code, head.content) == (431, b"")


async def test_an_rpc_with_a_large_head_is_refused_as_rpc(address: Address) -> None:
    async with aio.insecure_channel(str(address)) as channel:
        stub = channel.unary_unary("/documents.v1.DocumentService/GetDocument")
        with pytest.raises(aio.AioRpcError) as raised:
            await stub(b"\x0a\x01d", metadata=[("x-a", "y" * 5000)])
        assert raised.value.code() is StatusCode.RESOURCE_EXHAUSTED
        assert await stub(b"\x0a\x01d")


async def test_json_and_queries_are_bounded(client: httpx2.AsyncClient) -> None:
    deep = b'{"labels":' * 21 + b"1" + b"}" * 21
    answer = await client.post(AT, content=deep, headers={"content-type": "application/json"})
    assert told(answer) == (400, "VALIDATION_ERROR")
    assert told(await client.get(f"{AT}:watch?" + "count=1&" * 10)) == (400, "VALIDATION_ERROR")
    unknown = await client.get(f"{AT}:watch?cuont=1")
    assert "did you mean 'count'" in unknown.json()["error"]["details"][0]["message"]


async def test_the_process_bears_it(address: Address) -> None:
    """Many refusals at once, in this very process, and it answers as before."""
    process = os.getpid()
    async with httpx2.AsyncClient(base_url=address.url, timeout=60) as client:
        answers = await asyncio.gather(*(client.put(f"{AT}/d/bytes", content=b"x" * 300_000) for _ in range(20)))
        assert {told(each) for each in answers} == {(413, "PAYLOAD_TOO_LARGE")}
        assert (await client.get(f"{AT}/d")).status_code == 200
    assert os.getpid() == process
