"""Who publishes and who consumes what, held together across a platform when it starts (INT003).

What each service says of itself is its AsyncAPI document, so that a platform in one process and one that is split are
checked alike.
"""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interlock.contract.names import nearest
from interlock.server.application import StartError
from interlock.server.embedded import Address

log = logging.getLogger("interlock")

Document = Mapping[str, Any]

_ANSWER_LIMIT = 10.0
_MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One service that sends or receives an event: where it was found, and the event's message as it knows it."""

    service: str
    message: Document
    schemas: Document


def check_events(documents: Mapping[str, Document]) -> None:
    """Check the AsyncAPI documents of a platform's services, by name; log what may be meant, raise what can't be.

    A warning tells of an event that a service waits for and none publishes (its publisher may be elsewhere), or that
    several publish. StartError if publisher and consumer know an event as different messages.
    """
    sent, received = _sides(documents, "send"), _sides(documents, "receive")
    for type_, publishers in sent.items():
        if len(publishers) > 1:
            names = " and ".join(each.service for each in publishers)
            log.warning("INT003: %s is published by %s; let one service publish it, the noun's owner", type_, names)
    for type_, consumers in received.items():
        if type_ not in sent:
            names = ", ".join(each.service for each in consumers)
            log.warning(
                "INT003: %s waits for %s, which no service of this platform publishes%s; add its publisher to the "
                "platform, or name it there: publishes: %r",
                names,
                type_,
                nearest(type_, sent),
                type_,
            )
    differing = [
        f"INT003: {consumer.service} knows {type_} otherwise than {publisher.service}, which publishes it: {why}; "
        "let both use the publisher's .proto, and generate again"
        for type_, consumers in received.items()
        for publisher in sent.get(type_, [])
        for consumer in consumers
        if (why := _difference(publisher, consumer))
    ]
    if differing:
        raise StartError("\n".join(differing))


async def documents_of(services: Mapping[str, Address]) -> dict[str, Document]:
    """Ask running services for their AsyncAPI documents; those that give none are left out."""
    found = await asyncio.gather(*(_document(each) for each in services.values()))
    return {name: document for name, document in zip(services, found, strict=True) if document is not None}


def _sides(documents: Mapping[str, Document], action: str) -> dict[str, list[Side]]:
    found: dict[str, list[Side]] = {}
    for name, document in documents.items():
        for operation in document.get("operations", {}).values():
            if operation["action"] != action:
                continue
            channel = _resolve(document, operation["channel"]["$ref"])
            (message,) = channel["messages"].values()
            service = next((each["name"] for each in operation.get("tags", ())), name)
            side = Side(
                service=service,
                message=_resolve(document, message["$ref"]),
                schemas=document["components"]["schemas"],
            )
            found.setdefault(channel["address"], []).append(side)
    return found


def _difference(publisher: Side, consumer: Side) -> str:
    """Return how the consumer's message differs from the publisher's; fields that one of them lacks do not count."""
    names = [each.message["x-proto-message"] for each in (publisher, consumer)]
    if names[0] != names[1]:
        return f"it is the message {names[0]} there, and {names[1]} here"
    seen: set[str] = set()
    open_ = [("", publisher.message["payload"], consumer.message["payload"])]
    while open_:
        path, theirs, ours = open_.pop(0)
        if str(theirs) + str(ours) in seen:
            continue  # messages may recurse
        seen.add(str(theirs) + str(ours))
        theirs, ours = _followed(theirs, publisher.schemas), _followed(ours, consumer.schemas)
        if any(theirs.get(each) != ours.get(each) for each in ("type", "format", "contentEncoding")):
            return f"{path or 'the message'} is {_named(theirs)} there, and {_named(ours)} here"
        open_ += _inner(path, theirs, ours)
    return ""


def _inner(path: str, theirs: Document, ours: Document) -> Iterator[tuple[str, Document, Document]]:
    """Yield the parts that both schemas have, each with its path."""
    properties, known = theirs.get("properties", {}), ours.get("properties", {})
    for name in properties:
        if name in known:
            yield f"{path}.{name}".lstrip("."), properties[name], known[name]
    for name in ("items", "additionalProperties"):
        if isinstance(theirs.get(name), Mapping) and isinstance(ours.get(name), Mapping):
            yield f"{path}[]", theirs[name], ours[name]


def _followed(schema: Document, schemas: Document) -> Document:
    """Return the schema that a reference names."""
    found: Document = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _named(schema: Document) -> str:
    kind = schema.get("type", "anything")
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{text} ({schema['format']})" if "format" in schema else text


def _resolve(document: Document, reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


async def _document(address: Address) -> Document | None:
    try:
        async with asyncio.timeout(_ANSWER_LIMIT):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=_MOST_BYTES)
            try:
                writer.write(f"GET /asyncapi.json HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None
    if b" 200 " not in head.partition(b"\r\n")[0]:
        return None
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
