import json
from datetime import UTC, datetime

import pytest

from interlock.events.envelope import (
    Envelope,
    EventTooLarge,
    MalformedEnvelope,
    bounded,
    from_headers,
    from_json,
    to_headers,
    to_json,
)

EVENT = Envelope(
    id="e-1",
    source="api.order.v1.OrderService",
    type="order.created",
    partition_key='o-1 "ü"%\n',
    subject="o-1",
    time=datetime(2026, 11, 22, 12, 30, 0, 123456, UTC),
    data_schema="proto:api.order.v1.OrderCreated",
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    request_id="r-1",
    replays=2,
    data=b"\x00\xff",
)


def test_headers_carry_it_whole() -> None:
    """In binary mode every attribute is a printable ASCII header, and reads back as it was."""
    headers = to_headers(EVENT)
    assert headers["ce-specversion"] == "1.0"
    assert headers["content-type"] == "application/protobuf"
    assert headers["ce-partitionkey"] == "o-1%20%22%C3%BC%22%25%0A"
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert from_headers({name.upper(): value for name, value in headers.items()}, EVENT.data) == EVENT


def test_json_carries_it_whole() -> None:
    """In structured mode the event is one JSON object with its data in base64, and reads back as it was."""
    document = json.loads(to_json(EVENT))
    assert document["specversion"] == "1.0"
    assert document["time"] == "2026-11-22T12:30:00.123456Z"
    assert document["data_base64"] == "AP8="
    assert from_json(to_json(EVENT)) == EVENT


@pytest.mark.parametrize("missing", ["id", "source", "type", "time", "partitionkey"])
def test_an_attribute_that_is_missing_is_named(missing: str) -> None:
    """An event without a required attribute is refused by its name."""
    headers = to_headers(EVENT)
    del headers[f"ce-{missing}"]
    with pytest.raises(MalformedEnvelope, match=missing):
        from_headers(headers, b"")


@pytest.mark.parametrize(
    "name, value",
    [("ce-specversion", "0.3"), ("ce-time", "yesterday"), ("content-type", "text/plain"), ("ce-replays", "many")],
)
def test_an_attribute_that_is_wrong_is_refused(name: str, value: str) -> None:
    """An event of another version, time or content type is not taken for one of ours."""
    with pytest.raises(MalformedEnvelope):
        from_headers(to_headers(EVENT) | {name: value}, b"")


@pytest.mark.parametrize("document", [b"", b"[]", b"{", b'{"data_base64": 1}', b'{"data_base64": "?"}', b"\xff", b"{}"])
def test_json_that_is_no_event_is_refused(document: bytes) -> None:
    """Whatever arrives as JSON and is no event ends in MalformedEnvelope."""
    with pytest.raises(MalformedEnvelope):
        from_json(document)


def test_its_size_is_bounded() -> None:
    """An event above the limit is refused with its type, size and limit; one at the limit passes."""
    assert bounded(EVENT, EVENT.size) is EVENT
    with pytest.raises(EventTooLarge, match=rf"order\.created of {EVENT.size} bytes .* {EVENT.size - 1} bytes"):
        bounded(EVENT, EVENT.size - 1)
