"""Every client in JavaScript passes the same scenarios: grpc-js, connect-node, and connect-web in Chromium."""

import asyncio
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from google.protobuf import any_pb2, descriptor_pb2
from google.rpc import error_details_pb2, status_pb2

from interlock import Call
from interlock.server import Address, serving
from interlock.settings import Settings
from tests.browser import NoBrowser, browsing
from tests.javascript.programs import NoJavaScript, bundled, installed, ran
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.handlers import Sample, make

pytestmark = pytest.mark.asyncio(loop_scope="module")

IMAGE = Path(__file__).parents[1] / "sample" / "gen" / "contract.binpb"
SCENARIOS = (
    "every kind of field", "an empty message", "a large text, compressed", "every code with its details",
    "an unexpected exception", "a broken rule", "a thing that is not there", "headers and trailers both ways",
    "a deadline", "a caller that leaves", "a deprecated method", "a message at the limit", "a server stream",
    "an empty server stream", "a stream that fails midway", "a deadline in a stream", "leaving a stream",
    "a client stream", "a talk, line after line", "a talk in full duplex",
)  # fmt: skip
NODE_DOORS = (
    "grpc-js", "connect-node grpc", "connect-node grpc-web", "connect-node grpc-web HTTP/1.1",
    "connect-node proto", "connect-node proto HTTP/1.1", "connect-node JSON",
)  # fmt: skip
BROWSER_DOORS = ("connect-web proto", "connect-web JSON", "connect-web grpc-web")
PAGE = b"<!doctype html><meta charset=utf-8><link rel=icon href=data:,><title>x</title><script src=script></script>"


class Remembering(Sample):
    """Tells, when asked, how many of its handlers were cancelled."""

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        if request.text == "cancelled?":
            return EchoResponse(text=str(len(self.cancelled)))
        return await super().echo(request, call)


def image() -> bytes:
    """Return the contract, and beside it what errors are made of, as one FileDescriptorSet."""
    found = descriptor_pb2.FileDescriptorSet.FromString(IMAGE.read_bytes())
    there = {each.name for each in found.file}
    for module in (any_pb2, error_details_pb2, status_pb2):
        if module.DESCRIPTOR.name not in there:
            found.file.add().ParseFromString(module.DESCRIPTOR.serialized_pb)
    return bytes(found.SerializeToString())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page() -> AsyncIterator[tuple[str, dict[str, bytes]]]:
    """A web server of another origin than the app's: its address, and the files it serves."""
    files: dict[str, bytes] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = files.get(head.split(b" ")[1].partition(b"?")[0].decode())
        status = HTTPStatus.OK if body is not None else HTTPStatus.NOT_FOUND
        lines = f"HTTP/1.1 {status} {status.phrase}\r\ncontent-length: {len(body or b'')}\r\nconnection: close\r\n\r\n"
        writer.write(lines.encode() + (body or b""))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(page: tuple[str, dict[str, bytes]]) -> AsyncIterator[Address]:
    """Where the sample app is served, for scripts of the page too."""
    settings = Settings(cors_origins=(page[0],))
    async with serving(make(Remembering(), settings=settings)) as served:
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(address: Address, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What went wrong in Node.js, by door and scenario."""
    try:
        await installed()
    except NoJavaScript as reason:
        pytest.skip(f"NOTHING WAS PROVEN WITH CLIENTS FOR NODE.JS: {reason}")
    file = tmp_path_factory.mktemp("image") / "contract.binpb"
    file.write_bytes(image())
    code, said = await ran("node", "node.mjs", str(address), str(file), limit=100)
    assert code == 0, said[-2000:]
    return json.loads(said)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(address: Address, page: tuple[str, dict[str, bytes]]) -> Any:
    """What went wrong in a browser, by door and scenario."""
    url, files = page
    try:
        files |= {"/": PAGE, "/script": await bundled(), "/image": image()}
        async with browsing() as opened:
            await opened.open(f"{url}/?at={quote(address.url)}")
            return await opened.until("window.outcome", seconds=100)
    except (NoJavaScript, NoBrowser) as reason:
        pytest.skip(f"NOTHING WAS PROVEN WITH CLIENTS IN A BROWSER: {reason}")


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("door", NODE_DOORS)
async def test_in_node(door: str, scenario: str, node: Any) -> None:
    """The scenario passes through a client for Node.js."""
    assert node[door][scenario] is None


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("door", BROWSER_DOORS)
async def test_in_a_browser(door: str, scenario: str, browser: Any) -> None:
    """The scenario passes through a client in a browser, from another origin."""
    assert "failed" not in browser, browser["failed"]
    assert browser[door][scenario] is None


async def test_no_scenario_is_left_out(node: Any) -> None:
    """What ran is what is listed here."""
    assert {*node} == {*NODE_DOORS}
    assert all({*each} == {*SCENARIOS} for each in node.values())
