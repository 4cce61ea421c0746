"""Doors to the sample service: each calls it its own way and tells what came back in one form."""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from protobuf import Message
from protobuf.wkt.google.protobuf.duration_pb import Duration

from interlock import Code, Error
from interlock.contract.gen.interlock.v1.errors_pb import ErrorResponse
from interlock.contract.stub import Rpc
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, SampleServiceClient

Pairs = Sequence[tuple[str, str | bytes]]
LINES, EVENTS = "application/x-ndjson", "text/event-stream"
REST_CODES = {
    "VALIDATION_ERROR": {Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE},
    "CONFLICT": {Code.ABORTED},
    "RATE_LIMITED": {Code.RESOURCE_EXHAUSTED},
    "PAYLOAD_TOO_LARGE": {Code.RESOURCE_EXHAUSTED},
    "INTERNAL": {Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS},
}


@dataclass
class Failed(Exception):
    """What a caller learns of a failure; `codes` are those that the door can't tell apart."""

    codes: set[Code]
    message: str
    reason: str = ""
    violations: list[tuple[str, str]] = field(default_factory=list)
    retry_after: float | None = None
    metadata: dict[str, str | bytes] = field(default_factory=dict)


@dataclass
class Came:
    """What came back of a call that succeeded."""

    messages: list[Any]
    headers: dict[str, str | bytes]
    trailers: dict[str, str | bytes]

    @property
    def message(self) -> Any:
        """The one message."""
        assert len(self.messages) == 1
        return self.messages[0]


class Door(ABC):
    """A way to call; `trailers` tells whether it shows those of a stream."""

    name: str
    trailers = True

    @abstractmethod
    async def call(
        self,
        rpc: Rpc[Any, Any],
        *requests: Message[Any],
        metadata: Pairs = (),
        timeout: float | None = None,
    ) -> Came:
        """Call with one request, or several where the kind takes a stream; raise Failed."""


class Typed(Door):
    """Our own typed client, in process or over gRPC."""

    def __init__(self, name: str, client: SampleServiceClient) -> None:
        self.name = name
        self.client = client

    async def call(
        self, rpc: Rpc[Any, Any], *requests: Message[Any], metadata: Pairs = (), timeout: float | None = None
    ) -> Came:
        client = self.client.using(timeout=timeout, metadata=metadata)
        method = next(name for name, each in SAMPLE_SERVICE.rpcs.items() if each is rpc)
        try:
            if rpc.kind.server_streams:
                argument = requests if rpc.kind.client_streams else requests[0]
                async with getattr(client, method)(argument) as stream:
                    messages = [each async for each in stream]
                return Came(messages, dict(stream.headers.items()), dict(stream.trailers.items()))
            if rpc.kind.client_streams:
                return Came([await getattr(client, method)(requests)], {}, {})
            result = await client.call(rpc, requests[0])
            return Came([result.message], dict(result.headers.items()), dict(result.trailers.items()))
        except Error as error:
            after = error.retry_after.total_seconds() if error.retry_after else None
            violations = [(each.field, each.description) for each in error.violations]
            raise Failed({error.code}, error.message, error.reason, violations, after, dict(error.metadata)) from error


class Grpcio(Door):
    """A plain grpcio stub; details are read by Google's own library."""

    name = "grpcio"

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel

    async def call(
        self, rpc: Rpc[Any, Any], *requests: Message[Any], metadata: Pairs = (), timeout: float | None = None
    ) -> Came:
        kind = rpc.kind
        make = getattr(
            self.channel,
            f"{'stream' if kind.client_streams else 'unary'}_{'stream' if kind.server_streams else 'unary'}",
        )
        stub = make(
            rpc.path,
            request_serializer=lambda message: message.to_binary(),
            response_deserializer=rpc.reply_type.from_binary,
        )
        argument = iter(requests) if kind.client_streams else requests[0]
        call = stub(argument, timeout=timeout, metadata=tuple(metadata))
        try:
            messages = [each async for each in call] if kind.server_streams else [await call]
        except aio.AioRpcError as error:
            raise _failed(error) from error
        return Came(messages, dict(await call.initial_metadata()), dict(await call.trailing_metadata()))


def _failed(error: aio.AioRpcError) -> Failed:
    failed = Failed({Code(error.code().value[0])}, error.details() or "")
    failed.metadata = dict(error.trailing_metadata())
    binary = failed.metadata.get("grpc-status-details-bin")
    status = status_pb2.Status.FromString(binary) if isinstance(binary, bytes) else status_pb2.Status()
    assert binary is None or status.code == error.code().value[0]
    assert len(status.details) == len({each.type_url for each in status.details})
    for packed in status.details:
        if packed.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(packed.value)
            assert info.domain
            failed.reason = info.reason
        elif packed.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            bad = error_details_pb2.BadRequest.FromString(packed.value)
            failed.violations = [(each.field, each.description) for each in bad.field_violations]
        elif packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(packed.value).retry_delay
            failed.retry_after = delay.ToTimedelta().total_seconds()
        elif packed.type_url.endswith("interlock.v1.ErrorResponse"):
            response = ErrorResponse.from_binary(packed.value)
            assert response.message == (error.details() or "")
            assert [(each.field, each.description) for each in response.details] == failed.violations
    return failed


class Rest(Door):
    """REST by hand: paths and bodies as a reader of the contract would write them; `accept` is how streams come."""

    trailers = False  # of httpx2
    routes: Mapping[str, tuple[str, str]] = {
        "Echo": ("POST", "/v1/echo"),
        "EchoFormerly": ("POST", "/v1/echo:formerly"),
        "Fail": ("POST", "/v1/fail"),
        "Slow": ("GET", "/v1/slow?seconds={seconds}"),
        "CountUp": ("GET", "/v1/count/{count}?fail_after={fail_after}&pause={pause}"),
        "Blob": ("GET", "/v1/blobs/{size}"),
        "CreateThing": ("POST", "/v1/things"),
        "GetThing": ("GET", "/v1/things/{thing_id}"),
        "ListThings": ("GET", "/v1/things?page_size={page_size}&page_token={page_token}"),
    }

    def __init__(self, name: str, client: httpx2.AsyncClient, accept: str = "application/json") -> None:
        self.name = name
        self.client = client
        self.accept = accept

    async def call(
        self, rpc: Rpc[Any, Any], *requests: Message[Any], metadata: Pairs = (), timeout: float | None = None
    ) -> Came:
        (request,) = requests
        verb, path = self.routes[rpc.name]
        headers = [(name, value if isinstance(value, str) else _base64(value)) for name, value in metadata]
        headers.append(("accept", self.accept))
        if timeout is not None:
            headers.append(("grpc-timeout", f"{int(timeout * 1000)}m"))
        values = {each.name: _text(getattr(request, each.local_name, None)) for each in request.desc().fields}
        content = None
        if verb == "POST":
            content = request.to_json(use_proto_field_name=True).encode()
            headers.append(("content-type", "application/json"))
        answer = await self.client.request(verb, path.format(**values), headers=headers, content=content)
        if answer.is_error:
            raise _refused(answer.json()["error"], answer)
        if rpc.kind.server_streams:
            assert answer.headers["content-type"] == self.accept
            documents = [*(_lines if self.accept == LINES else _events)(answer.text)]
            if documents and "error" in documents[-1]:
                raise _refused(documents[-1]["error"], answer)
            messages = [rpc.reply_type.from_json(json.dumps(each["data"])) for each in documents]
            return Came(messages, dict(answer.headers), {})
        body = answer.json()
        data = body["data"]
        if rpc.name == "ListThings":
            rest = {key: body["meta"][key] for key in ("next_page_token", "total_size") if key in body["meta"]}
            data = {"things": data, **rest}
        return Came([rpc.reply_type.from_json(json.dumps(data))], dict(answer.headers), dict(answer.headers))


def _refused(error: Any, answer: httpx2.Response) -> Failed:
    codes = REST_CODES.get(error["code"]) or {Code[error["code"]]}
    after = answer.headers.get("retry-after")
    return Failed(
        set(codes),
        error["message"],
        error["reason"],
        [(each["field"], each["message"]) for each in error["details"]],
        float(after) if after else None,
        dict(answer.headers),
    )


def _lines(text: str) -> Iterator[Any]:
    """Read newline-delimited JSON."""
    assert text == "" or text.endswith("\n")
    yield from map(json.loads, text.splitlines())


def _events(text: str) -> Iterator[Any]:
    """Read server-sent events, which count from 1 and close with one of type `end` or `error`."""
    blocks = [block for block in text.removesuffix("\n\n").split("\n\n") if block != ":"]
    for number, block in enumerate(blocks, 1):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        closing = fields.get("event")
        assert (closing in ("end", "error")) is (number == len(blocks))
        assert closing or fields["id"] == str(number)
        if closing != "end":
            yield json.loads(fields["data"])


def _text(value: Any) -> Any:
    """Write a duration as a query parameter has it, an absent one as no time; leave the rest as it is."""
    return f"{value.to_seconds()}s" if isinstance(value, Duration) else "0s" if value is None else value


def _base64(value: bytes) -> str:
    return b64encode(value).decode().rstrip("=")
