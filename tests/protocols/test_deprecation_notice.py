"""What a caller is told of a deprecated operation: once, with the dates and the successor."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from interlock import Call, Metadata
from interlock.protocols import deprecation_notice
from interlock.protocols.deprecation_notice import DeprecatedOperation, Notice, told
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SampleServiceClient
from tests.sample.handlers import Sample, make

HEADERS = {
    "deprecation": "@1735689600",
    "sunset": "Wed, 31 Dec 2036 23:59:59 GMT",
    "link": '<https://docs.example/echo-v2>; rel="successor-version", <https://x.example>; rel="help"',
}


class Deprecated(Sample):
    """Handlers that say of themselves that they are deprecated."""

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        for name, value in HEADERS.items():
            call.reply_headers.add(name, value)
        return await super().echo(request, call)

    async def count_up(self, request: CountUpRequest, call: Call) -> AsyncIterator[Any]:
        call.reply_headers.add("deprecation", "@1735689600")
        async for each in super().count_up(request, call):
            yield each


@pytest.fixture(autouse=True)
def _untold() -> Iterator[None]:
    deprecation_notice._told.clear()
    yield
    deprecation_notice._told.clear()


@pytest.mark.parametrize("door", ["in process", "gRPC", "Connect"])
async def test_a_deprecated_operation_is_told_once(door: str, caplog: pytest.LogCaptureFixture) -> None:
    """The first call warns, at the caller's own line, and writes one line to the log; later ones don't."""
    app = make(Deprecated())
    async with serving(app) as address:
        target: Any = {"in process": app, "gRPC": str(address), "Connect": address.url}[door]
        with caplog.at_level(logging.WARNING, "interlock.deprecation"):
            async with SampleServiceClient(target) as client, SampleServiceClient(target) as other:
                with pytest.warns(DeprecatedOperation, match=r"Echo is deprecated since 2025-01-01") as warned:
                    await client.echo(text="x")
                await client.using(timeout=5).echo()
                await other.call(ECHO, EchoRequest())
                with pytest.warns(DeprecatedOperation, match="CountUp is deprecated"):
                    assert [each.number async for each in client.count_up(count=2)] == [1, 2]
                [each async for each in client.count_up(count=1)]
                await client.sum([])
    assert warned[0].filename == __file__
    assert [each.getMessage().split()[0] for each in caplog.records if each.name == "interlock.deprecation"] == [
        "/sample.v1.SampleService/Echo",
        "/sample.v1.SampleService/CountUp",
    ]
    text = str(warned[0].message)
    assert "it stops working on 2036-12-31" in text
    assert text.endswith("use https://docs.example/echo-v2 instead")


@pytest.mark.parametrize(
    "given, meant",
    [
        ("@1735689600", " since 2025-01-01"),
        ("2025-01-01", " since 2025-01-01"),
        ("Wed, 01 Jan 2025 00:00:00 GMT", " since 2025-01-01"),
        ("true", ""),
        ("@9999999999999999999", ""),
        ("@x", ""),
        ("", ""),
    ],
)
def test_any_form_of_the_date_is_understood_or_left_out(given: str, meant: str) -> None:
    """RFC 9745's date, the older forms, and what is none of them."""
    assert told("/a/B", given, Metadata()) == f"/a/B is deprecated{meant}"


@pytest.mark.parametrize("link", ["<", '<x>; rel="other"', "successor-version", "<" * 5000])
def test_a_link_that_is_none_is_left_out(link: str) -> None:
    """What is no link to a successor is not shown."""
    assert told("/a/B", "true", Metadata([("link", link), ("sunset", "soon")])) == "/a/B is deprecated"


def test_replies_are_looked_at_now_and_then() -> None:
    """The first reply is looked at, the next only after a while, and none once it was told."""
    notice = Notice("/a/B")
    assert notice.due()
    assert not notice.due()
    with pytest.warns(DeprecatedOperation):
        notice.look(Metadata([("deprecation", "true")]), stacklevel=1)
    assert not Notice("/a/B").due()
