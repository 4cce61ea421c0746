"""`interlock call`: one call by hand, curl for contracts."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from interlock.bench.operation import begin, find_operation, requests_of
from interlock.bench.plan import Refused
from interlock.bench.reflected import reflected
from interlock.bench.target import Target, read_target
from interlock.call import Call
from interlock.cli.call_steps import Steps
from interlock.client import Transport
from interlock.contract.builtin import operations_of
from interlock.contract.declared import read
from interlock.contract.effective import duration
from interlock.contract.find import find_image
from interlock.contract.gen.grpc.health.v1 import health_pb
from interlock.contract.generate import NotGenerated
from interlock.contract.load import build
from interlock.contract.mistakes import ContractError
from interlock.errors import Error
from interlock.metadata import Metadata
from interlock.protocols.client_tls import Tls
from interlock.protocols.connect_client import ConnectTransport
from interlock.protocols.grpc_client import GrpcTransport
from interlock.protocols.http_pool import Pools, Trace
from interlock.protocols.json_codec import registry_of, to_json
from interlock.protocols.serving import closing
from interlock.security.credentials import ServiceToken
from interlock.security.keys import KeySetError

if TYPE_CHECKING:
    from protobuf import Message

    from interlock.contract.model import Contract, Operation


CONNECT_LIMIT = 30.0
"""Seconds for a connection where neither caller nor contract bounds the call."""


class Unreachable(Exception):
    """The target did not tell its contract, so nothing could be called."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token as it was given: itself, or the file that holds it (`@FILE`); else what the environment says."""

    given: str | None = field(default=None, repr=False)

    async def add(self, metadata: Metadata) -> None:
        """Add the token to what calls carry; Refused where it can't be read, or minted."""
        token = self._read()
        if token is not None:
            _add(metadata, "authorization", f"Bearer {token}")
        elif os.environ.get("INTERLOCK_TOKEN") or os.environ.get("INTERLOCK_SERVICE_NAME"):
            carrier = Call(operations_of(health_pb.desc())[0])
            try:
                await ServiceToken.from_env().apply(carrier)
            except (ValueError, OSError, KeySetError) as error:
                raise Refused(f"no token could be had from the environment: {error}") from error
            metadata.extend(carrier.metadata)

    def _read(self) -> str | None:
        if self.given is None or not self.given.startswith("@"):
            return self.given
        try:
            return Path(self.given[1:]).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"the token's file can't be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Connection:
    """Where calls go, what each carries, and whose contract they follow (None: what the target says)."""

    target: Target
    token: Tokens = field(default_factory=Tokens)
    metadata: tuple[str, ...] = ()
    contract: str | None = None
    connections: int = 1

    tls: Tls | None = None

    def transport(self, trace: Trace | None = None) -> ConnectTransport | GrpcTransport:
        """Return what calls go over; TLS is verified against the system's authorities where none are named.

        `trace` is told of the steps of HTTP requests.
        """
        if self.target.connect:
            return ConnectTransport(self.target.url, tls=self.tls, pools=Pools(trace=trace) if trace else None)
        return self.grpc()

    def grpc(self) -> GrpcTransport:
        """Return a transport for gRPC, which reflection needs whatever calls go over."""
        tls = self.tls or Tls() if self.target.secure else None
        return GrpcTransport(str(self.target), tls=tls, connections=self.connections)


def call(  # noqa: PLR0917 - typer makes options of parameters
    target: Annotated[str, typer.Argument(metavar="TARGET", help="host:port or grpcs://…; http(s)://… for Connect.")],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="/pkg.Service/Method, or as much of it as is clear.")],
    request: Annotated[str, typer.Argument(metavar="[JSON]", help="The request; - reads it from the input.")] = "{}",
    token: Annotated[str | None, typer.Option(help="Bearer token, or @FILE that holds it.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Sent with the call; may be repeated.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="Such as 5s or 250ms. [the contract's]")] = None,
    contract: Annotated[
        str | None, typer.Option(help="Image, project or module with the contract. [the target's reflection]")
    ] = None,
    authorities: Annotated[str | None, typer.Option(help="PEM file that verifies the target. [the system's]")] = None,
    certificate: Annotated[str | None, typer.Option(help="PEM file of our own certificate, for mutual TLS.")] = None,
    key: Annotated[str | None, typer.Option(help="PEM file of its key, where that is another file.")] = None,
    timing: Annotated[bool, typer.Option("--timing", help="Tell how long each step took: connecting, TLS, …")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, whatever the outcome.")] = False,
) -> None:
    """Call one method and print the reply as JSON: over gRPC, or over Connect for http:// and https:// targets.

    The contract is the target's own, by gRPC reflection, unless --contract names another. A stream of replies is a line
    of JSON each. An error reply is told with its code, reason and the fields at fault. Without --token the environment
    counts: INTERLOCK_TOKEN, or INTERLOCK_SERVICE_NAME to mint one from the keys in INTERLOCK_KEYS.

    Exit 0 for a reply, 64 and the number of its code for an error (NOT_FOUND: 69), 2 where nothing was called.

      interlock call 127.0.0.1:8080 GetOrder '{"order_id": "o-1"}'
      interlock call 127.0.0.1:8080 api.order.v1.OrderService/GetOrder '{"order_id": "o-1"}' --token @token.txt
      interlock call https://orders.example.com grpc.health.v1.Health/Check --timeout 2s --timing
      interlock call grpcs://orders.example.com GetOrder '{"order_id": "o-1"}' --json | jq .reply.status
    """
    with stopped():
        tls = Tls(authorities=authorities, certificate=certificate, key=key) if authorities or certificate else None
        where = read_target(target)
        if tls is not None and not where.secure:
            raise Refused(f"{target!r} has no TLS; write grpcs:// or https:// before it")
        connection = Connection(where, Tokens(token), tuple(metadata or ()), contract, tls=tls)
        given = sys.stdin.read() if request == "-" else request
        steps = Steps() if timing else None
        shown = asyncio.run(_call(connection, method, given, _seconds(timeout), Shown(as_json=as_json, steps=steps)))
    shown.finish()
    if shown.error is not None:
        raise typer.Exit(64 + int(shown.error.code))


async def _call(connection: Connection, method: str, text: str, timeout: float | None, shown: "Shown") -> "Shown":
    metadata = await metadata_of(connection)
    contract = await read_contract(connection, metadata)
    operation = find_operation(contract, method)
    (request,) = requests_of(operation, text)
    if timeout is None and operation.timeout is not None:
        timeout = operation.timeout.total_seconds()
    steps = shown.steps
    transport = connection.transport(None if steps is None else steps.trace)
    try:
        if steps is not None:
            steps.mark("contract")
            await steps.look_up(connection.target.host, connection.target.port)
            if isinstance(transport, GrpcTransport):
                await transport.connect(CONNECT_LIMIT if timeout is None else timeout)
                steps.mark("connect")
        await _send(transport, operation, request, metadata, timeout, shown)
    except OSError as error:
        raise Refused(f"the files of TLS can't be read: {error}") from error
    finally:
        await transport.close()
    return shown


class Shown:
    """What is told of a call as it goes: replies, the error, and how long the steps took, where that is wanted."""

    def __init__(self, *, as_json: bool, steps: Steps | None = None) -> None:
        self._as_json = as_json
        self.steps = steps
        self._replies: list[Any] = []
        self._streams = False
        self._call: Call | None = None
        self.error: Error | None = None

    def begin(self, call: Call) -> None:
        """Note the call that is sent."""
        self._call = call
        self._streams = call.operation.kind.server_streams

    def mark(self, step: str) -> None:
        """Note that a step is over."""
        if self.steps is not None:
            self.steps.mark(step)

    def reply(self, message: "Message[Any]", registry: Any) -> None:
        """Print one reply, or keep it for the document."""
        self.mark("first reply")
        document = json.loads(to_json(message, registry))
        if self._as_json:
            self._replies.append(document)
        else:
            typer.echo(json.dumps(document, indent=None if self._streams else 2, ensure_ascii=False))

    def finish(self) -> None:
        """Print what comes last: the document, or the error and the times."""
        if self._as_json:
            typer.echo(json.dumps(self._document(), indent=2, ensure_ascii=False))
            return
        if self.error is not None:
            typer.echo(describe(self.error), err=True)
        if self.steps is not None:
            told(self.steps.text())

    def _document(self) -> dict[str, Any]:
        call, error = self._call, self.error
        document: dict[str, Any] = {"code": error.code.name if error is not None else "OK"}
        if self._streams:
            document["replies"] = self._replies
        elif self._replies:
            document["reply"] = self._replies[0]
        if error is not None:
            document["error"] = {
                "message": error.message,
                "reason": error.reason,
                "details": [{"field": each.field, "message": each.description} for each in error.violations],
                "retry_after": error.retry_after.total_seconds() if error.retry_after is not None else None,
            }
        if call is not None:
            document["headers"], document["trailers"] = _texts(call.reply_headers), _texts(call.reply_trailers)
        if self.steps is not None:
            document["milliseconds"] = self.steps.milliseconds()
        return document


def _texts(metadata: Metadata) -> dict[str, list[str]]:
    return {name: metadata.get_all(name) for name in dict.fromkeys(name for name, _ in metadata.items())}


async def _send(  # noqa: PLR0917 - what one call is made of
    transport: Transport,
    operation: "Operation",
    request: "Message[Any]",
    metadata: Metadata,
    timeout: float | None,
    shown: Shown,
) -> None:
    sent = begin(operation, request, metadata, timeout)
    sent.wants_metadata = True
    shown.begin(sent)
    registry = registry_of(operation.reply_type)
    try:
        reply: Any = await transport.handler(operation)(sent)
        if operation.kind.server_streams:
            async with closing(reply):
                async for message in reply:
                    shown.reply(message, registry)
        else:
            shown.reply(reply, registry)
    except Error as error:
        shown.error = error
    shown.mark("end")
    sent.end(shown.error)


def describe(error: Error) -> str:
    """Return the lines that tell a person of an error: code, message, reason, fields, when to try again."""
    from interlock.observability.logging import one_line

    lines = [error.code.name, *error.message.splitlines()]
    lines[:2] = [": ".join(lines[:2])]
    lines.append(f"reason: {error.reason}" + (f" ({error.domain})" if error.domain else ""))
    lines += [f"  {each.field}: {each.description}" for each in error.violations]
    if error.retry_after is not None:
        lines.append(f"retry after {error.retry_after.total_seconds():g} s")
    return "\n".join(map(one_line, lines))  # a terminal obeys nothing that a service says


async def metadata_of(connection: Connection) -> Metadata:
    """Return what each call carries; Refused where it can't travel."""
    metadata = Metadata()
    for each in connection.metadata:
        name, equals, value = each.partition("=")
        if not equals:
            raise Refused(f"{each!r} is no metadata; write NAME=VALUE")
        _add(metadata, name.strip(), value)
    if "authorization" not in metadata:
        await connection.token.add(metadata)
    return metadata


def _add(metadata: Metadata, name: str, value: str) -> None:
    try:
        metadata.add(name, value)
    except ValueError as error:
        raise Refused(str(error)) from error


async def read_contract(connection: Connection, metadata: Metadata) -> "Contract":
    """Return the contract that was named, else the target's own, by gRPC; Unreachable where it does not tell."""
    if connection.contract is not None:
        return _named(connection.contract)
    transport = connection.grpc()
    try:
        return await reflected(transport, metadata=metadata)
    except Error as error:
        raise Unreachable(
            f"{connection.target} does not tell its contract; name one with --contract\n{describe(error)}"
        ) from error
    finally:
        await transport.close()


def _named(name: str) -> "Contract":
    """Return the contract of that name, its rules unchecked, for what is called may be anybody's."""
    try:
        image = find_image(name, Path.cwd())
    except (ContractError, NotGenerated) as error:
        raise Refused(str(error)) from error
    try:
        return build(read(image), image)
    except Exception as error:  # a file that is no image fails in many ways
        raise Refused(f"{name} is no image of a contract: {error}") from error


@contextmanager
def stopped() -> Iterator[None]:
    """Tell what could not be done, and exit 2."""
    try:
        yield
    except (Refused, Unreachable) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error


def told(text: str) -> None:
    """Print a line of progress beside the output proper."""
    typer.echo(text, err=True)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        seconds = duration(text).total_seconds()
    except (ValueError, OverflowError) as error:
        raise Refused(f"--timeout {error}") from error
    if seconds <= 0:
        raise Refused("--timeout must be above zero")
    return seconds
