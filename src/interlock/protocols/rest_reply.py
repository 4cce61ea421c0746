"""A reply becomes a REST response: `{"data": …, "meta": {"timestamp", "version", "request_id"}}`, status, Location."""

import time
from json import JSONDecoder
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from protobuf import DescField, DescMessage, Message

from interlock.call import Call
from interlock.contract.model import HttpBinding, Operation, Service
from interlock.contract.rest_shape import data_field, element_of, is_repeated, message_of, success_status
from interlock.errors import Internal
from interlock.protocols.json_codec import registry_of, to_json
from interlock.protocols.rest_location import Locate

Headers: TypeAlias = list[tuple[bytes, bytes]]

_JSON = (b"content-type", b"application/json")
_second, _prefix = 0, ""


def timestamp() -> str:
    """Return now, in UTC, as RFC 3339 with milliseconds."""
    global _second, _prefix  # noqa: PLW0603 - the part that changes once a second
    milliseconds = time.time_ns() // 1_000_000
    second, rest = divmod(milliseconds, 1000)
    if second != _second:
        _prefix = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _second = second
    return f"{_prefix}{rest:03d}Z"


class ReplyWriter:
    """What one route makes of a reply, worked out once, at start."""

    def __init__(self, operation: Operation, binding: HttpBinding, limit: int, locate: Locate | None) -> None:
        self.status = success_status(operation, binding)
        self._limit = limit
        self._registry = registry_of(operation.reply_type)
        self._locate = locate
        self._streams = operation.kind.server_streams
        version = Service(name=operation.service, operations=()).version
        self._version = f'"version":{encode_basestring(version)},' if version else ""
        field = None if self._streams else data_field(operation, binding)
        self._part = _Part(operation.reply_type, field) if field is not None else None
        self._page = _Page(operation.reply_type, field) if field is not None and not binding.response_body else None

    def response(self, call: Call, reply: "Message[Any]") -> tuple[int, Headers, bytes]:
        """Return status, headers and body; Internal if the reply is larger than its limit."""
        request_id = call.request_id
        headers: Headers
        if self.status == 204:
            body = b""
            headers = [(b"x-request-id", request_id.encode()), *call.head]
        else:
            body = self._body(reply, request_id)
            headers = [
                _JSON,
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id.encode()),
                *call.head,
            ]
            if self._locate is not None and (location := self._locate(reply, call.request)) is not None:
                headers.append((b"location", location))
        if call.tail:  # REST has one place for both
            headers.extend(call.tail)
        return self.status, headers, body

    def _body(self, reply: "Message[Any]", request_id: str) -> bytes:
        data = to_json(reply, self._registry) if self._part is None else self._part.text(reply)
        more = "" if self._page is None else self._page.text(reply)
        # the id has passed Call's check: it needs no escapes
        body = (
            f'{{"data":{data},"meta":{{"timestamp":"{timestamp()}",{self._version}"request_id":"{request_id}"{more}}}}}'
        ).encode()
        if len(body) > self._limit:
            raise Internal(f"the reply of {len(body)} bytes is larger than the limit of {self._limit}")
        return body

    def line(self, message: "Message[Any]") -> bytes:
        """Return one message of a stream as a line of JSON; Internal if it is larger than its limit."""
        line = f'{{"data":{to_json(message, self._registry)}}}\n'.encode()
        if len(line) > self._limit:
            raise Internal(f"the reply of {len(line)} bytes is larger than the limit of {self._limit}")
        return line


class _Part:
    """One field of a reply as JSON, cut out of the text of a message that has nothing else set.

    With all else empty, what stands before and behind the field is always the same, so two lengths are enough.
    """

    def __init__(self, reply_type: "type[Message[Any]]", field: DescField) -> None:
        self._type = reply_type
        self._registry = registry_of(reply_type)
        self._field = field
        probe = reply_type()
        message = message_of(field)
        if message is not None:
            probe[field] = message.type()
        elif _explicit(field):
            probe[field] = probe[field]
        text = to_json(probe)
        key = f'"{field.name}":'
        self._start = text.index(key) + len(key)
        self._behind = len(text) - JSONDecoder().raw_decode(text, self._start)[1]

    def text(self, reply: "Message[Any]") -> str:
        field = self._field
        message = message_of(field)
        if message is not None:
            return to_json(reply[field], self._registry) if field in reply else "null"
        if _explicit(field) and field not in reply:
            return "null"
        alone = self._type()
        alone[field] = reply[field]
        text = to_json(alone, self._registry)
        return text[self._start : len(text) - self._behind]


class _Page:
    """The fields of a page beside its items, as members that follow others in `meta`."""

    def __init__(self, reply_type: "type[Message[Any]]", items: DescField) -> None:
        fields = [each for each in reply_type.desc().fields if each is not items]
        self._parts = [(f',"{each.name}":', each, _Part(reply_type, each)) for each in fields]
        simple = all(not _explicit(each) and _is_simple(each) for each in fields)
        self._type = reply_type
        self._names = [each.local_name for each in fields] if simple else None
        self._empty = f'"{items.name}":[]'
        self._first = reply_type.desc().fields[0] is items

    def text(self, reply: "Message[Any]") -> str:
        if self._names is None:
            return "".join(
                key + part.text(reply) for key, field, part in self._parts if field in reply or not _explicit(field)
            )
        rest = to_json(self._type(**{name: getattr(reply, name) for name in self._names}))
        if self._first:
            return rest[len(self._empty) + 1 : -1]
        return f",{rest[1:-1]}".replace(f",{self._empty}", "", 1)


def _explicit(field: DescField) -> bool:
    return field.presence != 2 and not is_repeated(field)  # SupportedFieldPresence.IMPLICIT


def _is_simple(field: DescField) -> bool:
    """Tell whether the field's JSON is a scalar, or a list of scalars, in which no key can stand."""
    return not isinstance(element_of(field), DescMessage) and hasattr(field.value, "oneof")
