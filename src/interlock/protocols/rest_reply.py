"""A reply becomes a REST response: `{"data": …, "meta": {"timestamp", "version", "request_id"}}`, status, headers.

Or the file that it is (`google.api.HttpBody`), nothing that changed (304), or nothing as the caller prefers (RFC 7240).
"""

import re
from functools import lru_cache
from json import JSONDecoder
from json.encoder import encode_basestring
from typing import Any, TypeAlias

from protobuf import DescField, DescMessage, Message

from interlock.call import Call
from interlock.contract.model import HttpBinding, Operation, Service
from interlock.contract.rest_shape import (
    data_field,
    element_of,
    etag_field,
    is_repeated,
    message_of,
    raw_reply_field,
    sends_raw_body,
    success_status,
)
from interlock.errors import Internal, NotAcceptable
from interlock.metadata import Metadata
from interlock.protocols.compression import THRESHOLD, accepted
from interlock.protocols.json_codec import registry_of, to_json
from interlock.protocols.rest_condition import Validators
from interlock.protocols.rest_fields import preferred, wants_minimal, whole
from interlock.protocols.rest_location import Locate
from interlock.stamps import timestamp

Headers: TypeAlias = list[tuple[bytes, bytes]]

Response: TypeAlias = tuple[int, Headers, bytes]
"""Status, headers and body."""

_JSON = (b"content-type", b"application/json")
_EMPTY = (b"content-length", b"0")
_MINIMAL = ((b"preference-applied", b"return=minimal"), (b"vary", b"prefer"))
_VARY_ENCODING = (b"vary", b"accept-encoding")
_TEXTS = (b"application/json", b"application/xml", b"application/javascript", b"application/yaml")
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:;[\x20-\x7e]*)?\Z")


class ReplyWriter:
    """What one route makes of a reply, worked out once, at start."""

    def __init__(self, operation: Operation, binding: HttpBinding, limit: int, locate: Locate | None) -> None:
        self.status = success_status(operation, binding)
        self._limit = limit
        self._registry = registry_of(operation.reply_type)
        self._locate = locate
        self._writes = binding.verb != "GET"
        version = Service(name=operation.service, operations=()).version
        self._version = f'"version":{encode_basestring(version)},' if version else ""
        streams = operation.kind.server_streams
        self.file = FileWriter(operation, binding, limit) if sends_raw_body(operation, binding) else None
        field = None if streams or self.file is not None else data_field(operation, binding)
        self._part = _Part(operation.reply_type, field) if field is not None else None
        self._page = _Page(operation.reply_type, field) if field is not None and not binding.response_body else None
        conditional = not streams and (binding.verb == "GET" or etag_field(operation, binding) is not None)
        self._validators = Validators(operation, binding) if conditional else None

    def response(self, call: Call, reply: "Message[Any]") -> Response:
        """Return status, headers and body.

        Internal if the reply is larger than its limit, EtagMismatch if it is not what the caller's `If-Match` wants.
        """
        request_id = call.request_id
        headers: Headers = [(b"x-request-id", request_id.encode()), *call.head]
        if self._validators is not None:
            tag = self._validators.tag(reply)
            if tag is not None:
                headers.append((b"etag", tag))
            if self._validators.unchanged(call, tag):
                return 304, [*headers, *call.tail], b""
        if self._locate is not None and (location := self._locate(reply, call.request)) is not None:
            headers.append((b"location", location))
        if call.tail:  # REST has one place for both
            headers.extend(call.tail)
        if self.status == 204:
            return 204, headers, b""
        if self._writes and _asks_for_nothing(call.metadata):
            headers += _MINIMAL
            return (201, [*headers, _EMPTY], b"") if self.status == 201 else (204, headers, b"")
        if self.file is not None:
            kind, body = self.file.content(call, reply)
            headers.append((b"content-type", kind))
            compressible = _is_text(kind)
        else:
            headers.append(_JSON)
            body = self._body(reply, request_id)
            compressible = True
        call.reply_bytes = len(body)
        if compressible and len(body) >= THRESHOLD:
            headers.append(_VARY_ENCODING)
            compression = accepted(call.metadata.header(b"accept-encoding"))
            if compression is not None:
                body = compression.compress(body)
                headers.append((b"content-encoding", compression.name))
        headers.append((b"content-length", b"%d" % len(body)))
        return self.status, headers, body

    def _body(self, reply: "Message[Any]", request_id: str) -> bytes:
        data = to_json(reply, self._registry) if self._part is None else self._part.text(reply)
        more = "" if self._page is None else self._page.text(reply)
        # the id has passed Call's check: it needs no escapes
        body = (
            f'{{"data":{data},"meta":{{"timestamp":"{timestamp()}",{self._version}"request_id":"{request_id}"{more}}}}}'
        ).encode()
        if len(body) > self._limit:
            raise _too_large(len(body), self._limit)
        return body

    def data(self, message: "Message[Any]") -> bytes:
        """Return one message of a stream as `{"data": …}`; Internal if it is larger than its limit."""
        text = f'{{"data":{to_json(message, self._registry)}}}'.encode()
        if len(text) > self._limit:
            raise _too_large(len(text), self._limit)
        return text


def _asks_for_nothing(metadata: Metadata) -> bool:
    return metadata.header(b"prefer") is not None and wants_minimal(whole(metadata, b"prefer") or b"")


def _too_large(size: int, limit: int) -> Internal:
    return Internal(f"the reply of {size} bytes is larger than the limit of {limit}")


@lru_cache(256)
def _is_text(kind: bytes) -> bool:
    name = kind.partition(b";")[0].strip().lower()
    return name.startswith(b"text/") or name in _TEXTS or name.endswith((b"+json", b"+xml"))


class FileWriter:
    """Replies that are files, `google.api.HttpBody`: their own media type, no envelope."""

    __slots__ = ("_field", "_limit", "_reads")

    def __init__(self, operation: Operation, binding: HttpBinding, limit: int) -> None:
        self._field = raw_reply_field(operation, binding)
        self._limit = limit
        self._reads = binding.verb == "GET"

    def content(self, call: Call, reply: Any) -> tuple[bytes, bytes]:
        """Return media type and bytes.

        Internal for what is no media type or too large, NotAcceptable where a GET's Accept excludes it.
        """
        if self._field is not None:
            reply = reply[self._field] if self._field in reply else None  # noqa: SIM401 - a message has no get
        kind, data = (reply.content_type, reply.data) if reply is not None else ("", b"")
        kind = kind or "application/octet-stream"
        if not _MEDIA_TYPE.match(kind):
            raise Internal("the content_type of the reply is no media type")
        if len(data) > self._limit:
            raise _too_large(len(data), self._limit)
        name = kind.partition(";")[0].strip().lower().encode()
        accept = whole(call.metadata, b"accept") if self._reads else None
        if accept is not None and preferred(accept, (name,)) is None:
            raise NotAcceptable(f"the reply is {name.decode()}, which Accept excludes")
        return kind.encode(), data


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
