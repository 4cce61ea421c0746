"""The contract's events as an AsyncAPI 3.0 document, the same bytes each time."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

from interlock.contract.comments import comments
from interlock.contract.json_schema import Schemas
from interlock.contract.model import Contract, Event, Service
from interlock.contract.validation_schema import Schema

CONTENT_TYPE = "application/protobuf"
"""What the data of every event is on the wire; its schema is that of its JSON form, with the contract's names."""

_TEXT: Schema = {"type": "string"}
_PROTOCOLS = {"nats": "nats", "tls": "nats", "amqp": "amqp", "amqps": "amqps"}

_WIRE = (
    "Events are CloudEvents 1.0, whose data is the message in protobuf's binary form; the schemas here are those of "
    "its JSON form. Events of one key are consumed in the order in which they were published, and each at least once."
)


def asyncapi(
    contract: Contract | Iterable[Contract],
    *,
    services: Iterable[Service] | None = None,
    title: str = "",
    version: str = "",
    broker: str = "",
) -> Schema:
    """Return the AsyncAPI 3.0 document of one contract, or of several that make one platform.

    With `services`, it tells of those only, and of the events that they send or receive. `broker` is the URL of the
    server that carries them, whose password is left out; one on a file has no address, and is not told.
    """
    contracts = [contract] if isinstance(contract, Contract) else list(contract)
    chosen = list(services) if services is not None else [each for one in contracts for each in one.services]
    chosen = [each for each in chosen if each.publishes or each.subscribes]
    events = _events(contracts, chosen, everything=services is None)
    known = {name: text for each in contracts for name, text in comments(each.image).items()}
    schemas = Schemas(known)
    messages = {_message_name(each, events): _message(each, schemas) for each in events}
    first = chosen[0] if chosen else None
    found: Schema = {
        "asyncapi": "3.0.0",
        "info": {
            "title": title or (first.short_name if first else "no events"),
            "version": version or (first.version if first else "") or "1.0",
            "description": _WIRE,
            "tags": [_tag(each) for each in chosen],
        },
        "defaultContentType": CONTENT_TYPE,
    }
    if server := _server(broker):
        found["servers"] = {"broker": server}
    found["channels"] = {each.type: _channel(each, _message_name(each, events)) for each in events}
    found["operations"] = dict(
        _operation(service, event, action, _message_name(event, events))
        for service in chosen
        for action, types in (("send", service.publishes), ("receive", service.subscribes))
        for event in events
        if event.type in types
    )
    found["components"] = {
        "messages": messages,
        "messageTraits": {"cloudEvent": {"headers": _HEADERS}},
        "schemas": schemas.components,
    }
    return found


def asyncapi_json(
    contract: Contract | Iterable[Contract],
    *,
    services: Iterable[Service] | None = None,
    title: str = "",
    broker: str = "",
) -> bytes:
    """Return the document as the bytes that `/asyncapi.json` answers with, the same ones each time."""
    document = asyncapi(contract, services=services, title=title, broker=broker)
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


_HEADERS: Schema = {
    "type": "object",
    "description": "CloudEvents attributes: `ce-…` headers on NATS, members of the JSON document on RabbitMQ.",
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "id": _TEXT | {"description": "Names the event; one that comes twice has the same."},
        "source": _TEXT | {"description": "The service that published it, by its full name."},
        "type": _TEXT | {"description": "The event's type, which is the channel's address."},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string", "const": CONTENT_TYPE},
        "partitionkey": _TEXT | {"description": "Events of one key are consumed in order."},
        "subject": _TEXT | {"description": "The resource that the event is about."},
        "dataschema": _TEXT | {"description": "`proto:` and the full name of the message."},
        "traceparent": _TEXT | {"description": "W3C Trace Context of what published it."},
        "requestid": _TEXT | {"description": "The request that caused it."},
    },
    "required": ["specversion", "id", "source", "type", "time", "partitionkey"],
}


def _events(contracts: Sequence[Contract], chosen: Sequence[Service], *, everything: bool) -> list[Event]:
    """Return the events to tell of, each type once, as the contracts have them."""
    named = {type_ for each in chosen for type_ in (*each.publishes, *each.subscribes)}
    found: dict[str, Event] = {}
    for contract in contracts:
        for event in contract.events:
            if everything or event.type in named:
                found.setdefault(event.type, event)
    return list(found.values())


def _message_name(event: Event, events: Sequence[Event]) -> str:
    """Return the message's short name, or its full one where two events have the same short one."""
    full = event.message_type.desc().type_name
    short = full.rpartition(".")[2]
    shorts = [each.message_type.desc().type_name.rpartition(".")[2] for each in events]
    return full if shorts.count(short) > 1 else short


def _channel(event: Event, message: str) -> Schema:
    found: Schema = {"address": event.type, "title": event.type}
    if event.comment:
        found["description"] = event.comment
    return found | {"messages": {message: {"$ref": f"#/components/messages/{message}"}}}


def _operation(service: Service, event: Event, action: str, message: str) -> tuple[str, Schema]:
    channel = f"#/channels/{event.type}"
    verb = "publishes" if action == "send" else "consumes"
    found: Schema = {
        "action": action,
        "channel": {"$ref": channel},
        "title": f"{service.short_name} {verb} {event.type}",
        "tags": [{"name": service.short_name}],
        "messages": [{"$ref": f"{channel}/messages/{message}"}],
    }
    return f"{service.short_name}.{action}.{event.type}", found


def _message(event: Event, schemas: Schemas) -> Schema:
    desc = event.message_type.desc()
    found: Schema = {"name": event.type, "title": desc.type_name.rpartition(".")[2]}
    summary, _, rest = event.comment.partition("\n")
    texts = [rest.strip(), f"Ordered by its `{event.key}`."]
    if (gone := event.deprecation) is not None:
        since = f" since {gone.since}" if gone.since else ""
        until = f" and no longer published from {gone.sunset}" if gone.sunset else ""
        texts.append(f"Deprecated{since}{until}; use {gone.successor}.")
        found["tags"] = [{"name": "deprecated"}]
    return {
        **found,
        **({"summary": summary} if summary else {}),
        "description": "\n\n".join(filter(None, texts)),
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.header#/id"},
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": schemas.message(desc),
        "x-proto-message": desc.type_name,
        "x-partition-key": event.key,
    }


def _tag(service: Service) -> Schema:
    return {"name": service.short_name} | ({"description": service.comment} if service.comment else {})


def _server(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    protocol = _PROTOCOLS.get(parts.scheme)
    if protocol is None or not parts.hostname:
        return {}
    port = f":{parts.port}" if parts.port else ""
    path = {"pathname": parts.path} if parts.path not in ("", "/") else {}
    return {"host": f"{parts.hostname}{port}", "protocol": protocol, **path}
