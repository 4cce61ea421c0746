"""An event on its way: CloudEvents 1.0 (with the partitioning and tracing extensions), and its forms on the wire."""

import json
import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, unquote

CONTENT_TYPE = "application/protobuf"
"""What the data of every event is: its message in protobuf's binary form."""

EVENT_BYTES = (1 << 20) - (16 << 10)
"""The default bound of an event: 1 MiB with its envelope, less 16 KiB for what a broker adds to it."""

_HEADER = "ce-"
_REQUIRED = ("id", "source", "type", "time", "partitionkey")
_TEXT = re.compile(r"[\x21\x23\x24\x26-\x7e]*\Z")


class MalformedEnvelope(ValueError):
    """What arrived is no event of ours: an attribute is missing or unreadable."""


class EventTooLarge(ValueError):
    """An event is larger than its bound; send a reference to what is large instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One event: its CloudEvents attributes and its message, encoded.

    `id` is unique for its source and names the event everywhere; `partition_key` orders events: those of one type and
    key are consumed in the order in which they were published. `subject` is the resource, `data_schema` a URI with
    the message's full name (`proto:api.order.v1.OrderCreated`), `traceparent` W3C Trace Context, `request_id` that of
    the request that caused it. `replays` counts how often it was taken out of the dead letters.
    """

    id: str
    source: str
    type: str
    partition_key: str
    time: datetime
    subject: str = ""
    data_schema: str = ""
    traceparent: str = ""
    request_id: str = ""
    replays: int = 0
    data: bytes = b""

    @property
    def size(self) -> int:
        """Bytes of data and attributes, near enough to what travels."""
        return len(self.data) + sum(len(name) + len(value) + 8 for name, value in to_attributes(self).items())

    @property
    def attempt_id(self) -> str:
        """Names this way of the event through the broker: its id alone at first, another one for each replay."""
        return f"{self.id}/{self.replays}" if self.replays else self.id

    def replayed(self) -> "Envelope":
        """Return the same event on one more way out of the dead letters."""
        return replace(self, replays=self.replays + 1)


def bounded(envelope: Envelope, limit: int = EVENT_BYTES) -> Envelope:
    """Return `envelope`; EventTooLarge if it has more than `limit` bytes."""
    if envelope.size > limit:
        raise EventTooLarge(
            f"the event {envelope.type} of {envelope.size} bytes is larger than the limit of {limit} bytes; "
            "put what is large elsewhere and send a reference to it"
        )
    return envelope


def to_attributes(envelope: Envelope) -> dict[str, str]:
    """Return the CloudEvents attributes by their names on the wire, empty ones left out, without the data."""
    given = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": CONTENT_TYPE,
        "partitionkey": envelope.partition_key,
        "subject": envelope.subject,
        "dataschema": envelope.data_schema,
        "traceparent": envelope.traceparent,
        "requestid": envelope.request_id,
        "replays": str(envelope.replays) if envelope.replays else "",
    }
    return {name: value for name, value in given.items() if value}


def from_attributes(attributes: Mapping[str, str], data: bytes) -> Envelope:
    """Return the envelope of attributes by their names on the wire; MalformedEnvelope names what is wrong."""
    missing = [name for name in _REQUIRED if not attributes.get(name)]
    if missing:
        raise MalformedEnvelope(f"the event has no {', '.join(missing)}")
    if attributes.get("specversion", "1.0") != "1.0":
        raise MalformedEnvelope(f"CloudEvents {attributes['specversion'][:16]!r} is not known here, only 1.0")
    if (content_type := attributes.get("datacontenttype", CONTENT_TYPE)) != CONTENT_TYPE:
        raise MalformedEnvelope(f"the event's data is {content_type[:100]!r}, and not {CONTENT_TYPE}")
    try:
        time = datetime.fromisoformat(attributes["time"])
        replays = int(attributes.get("replays", "0"))
    except ValueError as wrong:
        raise MalformedEnvelope(f"the event's time or replays can't be read: {wrong}") from None
    return Envelope(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        partition_key=attributes["partitionkey"],
        time=time if time.tzinfo else time.replace(tzinfo=UTC),
        subject=attributes.get("subject", ""),
        data_schema=attributes.get("dataschema", ""),
        traceparent=attributes.get("traceparent", ""),
        request_id=attributes.get("requestid", ""),
        replays=replays,
        data=data,
    )


def to_headers(envelope: Envelope) -> dict[str, str]:
    """Return the headers of the binary mode (`ce-…`, CloudEvents HTTP and NATS bindings §3.1); the body is the data."""
    attributes = to_attributes(envelope)
    content_type = attributes.pop("datacontenttype")
    return {"content-type": content_type, **{_HEADER + name: _quoted(value) for name, value in attributes.items()}}


def from_headers(headers: Mapping[str, str], data: bytes) -> Envelope:
    """Return the envelope of a message in binary mode; header names in any case. MalformedEnvelope if it is none."""
    attributes = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower.startswith(_HEADER):
            attributes[lower.removeprefix(_HEADER)] = unquote(value)
        elif lower == "content-type":
            attributes["datacontenttype"] = value
    return from_attributes(attributes, data)


def to_json(envelope: Envelope) -> bytes:
    """Return the event in structured mode (CloudEvents JSON format 1.0, `data_base64`)."""
    event = {**to_attributes(envelope), "data_base64": b64encode(envelope.data).decode()}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def from_json(document: bytes) -> Envelope:
    """Return the envelope of an event in structured mode; MalformedEnvelope if it is none."""
    try:
        event = json.loads(document)
        data = b64decode(event.pop("data_base64", ""), validate=True)
    except (ValueError, TypeError, AttributeError, RecursionError) as wrong:
        raise MalformedEnvelope(f"the event is no CloudEvent in JSON: {wrong}") from None
    return from_attributes({name: value for name, value in event.items() if isinstance(value, str)}, data)


def _quoted(value: str) -> str:
    """Percent-encode what a header can't hold (CloudEvents HTTP binding §3.1.3.2)."""
    return value if _TEXT.match(value) else quote(value, safe="!#$&'()*+,/:;=?@[]~^`{|}<>")
