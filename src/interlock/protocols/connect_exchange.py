"""What a Connect client's calls share: the head of a request, its sending, and what can go wrong with either."""

from contextlib import suppress
from typing import Any

import httpx2
from protobuf import Message

from interlock.call import Call
from interlock.contract.model import Operation
from interlock.deadline import NEVER, monotonic
from interlock.errors import UNPROCESSED, DeadlineExceeded, Error, Internal, TooLarge, Unavailable, Unknown
from interlock.metadata import Metadata
from interlock.protocols.client_streams import received
from interlock.protocols.connect_host import ConnectHost
from interlock.protocols.connect_reply import MAX_JSON_DEPTH, media_type, metadata_of
from interlock.protocols.http_pool import Pool
from interlock.protocols.json_codec import depth_exceeds, registry_of

_LONGEST_TIMEOUT = 9_999_999_999  # ten digits of milliseconds
_OURS = (b"connect-", b"content-encoding", b"accept-encoding")


class ClientCodec:
    """The bytes of an operation's messages, bounded both ways."""

    def __init__(self, host: ConnectHost, operation: Operation) -> None:
        self.name = host.options.codec
        self._json = self.name == "json"
        self._limit = host.max_bytes
        self._above = host.options.compress_above
        self._reply_type = operation.reply_type
        self._registries = (registry_of(operation.request_type), registry_of(operation.reply_type))

    def encode(self, message: Message[Any]) -> bytes:
        """Encode a request; TooLarge above the client's limit."""
        data = message.to_json(registry=self._registries[0]).encode() if self._json else message.to_binary()
        if len(data) > self._limit:
            raise received(
                TooLarge(f"the request of {len(data)} bytes is larger than the client's limit of {self._limit}")
            )
        return data

    def compresses(self, data: bytes) -> bool:
        """Tell whether a request of that size is worth compressing."""
        return self._above is not None and len(data) > self._above

    def decode(self, data: bytes) -> Message[Any]:
        """Decode a reply; Internal where it is none."""
        try:
            if not self._json:
                return self._reply_type.from_binary(data)
            if depth_exceeds(data, MAX_JSON_DEPTH):
                raise ValueError("nested too deeply")  # noqa: TRY301 - one way out for all that can't be read
            return self._reply_type.from_json(data, ignore_unknown_fields=True, registry=self._registries[1])
        except Exception as broken:
            raise Internal(f"the reply is no valid {self._reply_type.desc().type_name}") from broken


def head_of(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the header fields of a call: its metadata, and what is left of its time (Connect-Timeout-Ms)."""
    fields = [pair for pair in call.metadata.raw if not pair[0].startswith(_OURS)]
    at = call.deadline.at
    if at != NEVER.at:
        left = at - monotonic()
        if left <= 0:
            late = received(DeadlineExceeded("the deadline passed before the call was sent"))
            late.unsent = True
            raise late
        fields.append((b"connect-timeout-ms", b"%d" % min(max(1, int(left * 1000 + 0.999)), _LONGEST_TIMEOUT)))
    return fields


async def sent(host: ConnectHost, pool: Pool, call: Call, request: httpx2.Request) -> httpx2.Response:
    """Send a request and return the head of its response; what the engine raises becomes an error of ours."""
    try:
        return await host.within(call, pool.send(request))
    except httpx2.HTTPError as failed:
        raise failure_of(failed) from failed


def failure_of(failed: httpx2.HTTPError) -> Error:
    """Return the error of ours for what the engine raised; `unsent` if the request never left."""
    unsent = isinstance(failed, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    if unsent:
        error: Error = Unavailable(f"no connection could be made: {str(failed) or type(failed).__name__}")
    elif isinstance(failed, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
        error = Internal(f"the request can't be sent over HTTP: {failed}")
    else:
        error = Unavailable(f"the connection broke before the reply was whole: {str(failed) or type(failed).__name__}")
    error.unsent = unsent
    return received(error)


def timeouts(pool: Pool) -> dict[str, Any]:
    """Return the engine's own bounds for a request: connecting alone has one, the deadline is ours."""
    connect = pool._pools.limits.connect.total_seconds()
    return {"timeout": {"connect": connect, "pool": connect, "read": None, "write": None}}


async def close_response(response: httpx2.Response, pool: Pool) -> None:
    """Let go of a reply's connection, whatever state it is in."""
    try:
        with suppress(httpx2.HTTPError, OSError):
            await response.stream.aclose()  # type: ignore[union-attr]  # the stream of an asynchronous transport
    finally:
        pool.done()


def noted(error: Error, call: Call, response: httpx2.Response, trailers: Metadata | None = None) -> Error:
    """Complete an error with the reply's metadata, and give that to a call that wants it."""
    headers = response.headers
    head, tail = metadata_of(headers.raw)
    if trailers is not None:
        tail.extend(trailers)
    error.metadata = (*error.metadata, *head.items(), *tail.items())
    pushback = headers.get("grpc-retry-pushback-ms", headers.get("trailer-grpc-retry-pushback-ms"))
    error.final = pushback == "-1"
    error.unsent = UNPROCESSED in error.metadata
    give(call, head, tail)
    return received(error)


def give(call: Call, head: Metadata, tail: Metadata) -> None:
    """Give a reply's metadata to a call that wants it."""
    if call.wants_metadata:
        call.reply_headers.extend(head)
        call.reply_trailers.extend(tail)


def wrong_type(response: httpx2.Response, expected: str, family: str) -> Error:
    """Return the error for a reply of another content type: INTERNAL where it is Connect's, in another codec."""
    given = media_type(response.headers)
    told = f"the reply is {given or 'of no content type'}, not {expected}"
    return Internal(told) if given in (family + "proto", family + "json") else Unknown(told)
