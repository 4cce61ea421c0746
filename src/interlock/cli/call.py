"""`interlock call`: one call by hand, curl for contracts."""

import asyncio
import json
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
from interlock.contract.declared import read
from interlock.contract.effective import duration
from interlock.contract.find import find_image
from interlock.contract.generate import NotGenerated
from interlock.contract.load import build
from interlock.contract.mistakes import ContractError
from interlock.errors import Error
from interlock.metadata import Metadata
from interlock.protocols.grpc_client import GrpcTransport, Tls
from interlock.protocols.json_codec import registry_of, to_json
from interlock.protocols.serving import closing

if TYPE_CHECKING:
    from protobuf import Message

    from interlock.contract.model import Contract, Operation


class Unreachable(Exception):
    """The target did not tell its contract, so nothing could be called."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A token as it was given: itself, or the file that holds it (`@FILE`)."""

    given: str | None = field(default=None, repr=False)

    def read(self) -> str | None:
        """Return the token; Refused where its file can't be read."""
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

    def transport(self) -> GrpcTransport:
        """Return a transport; TLS, where the target has it, is verified against the system's authorities."""
        tls = Tls() if self.target.secure else None
        return GrpcTransport(str(self.target), tls=tls, connections=self.connections)


def call(  # noqa: PLR0917 - typer makes options of parameters
    target: Annotated[str, typer.Argument(metavar="TARGET", help="host:port, or https://host:port for TLS.")],
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
) -> None:
    """Call one method over gRPC and print the reply as JSON.

    The contract is the target's own, by reflection, unless --contract names another. A stream of replies is a line of
    JSON each. An error reply is told with its code, reason and the fields at fault.

    Exit 0 for a reply, 1 for an error, 2 where nothing was called.

      interlock call 127.0.0.1:8080 GetOrder '{"order_id": "o-1"}'
      interlock call 127.0.0.1:8080 api.order.v1.OrderService/GetOrder '{"order_id": "o-1"}' --token @token.txt
      interlock call https://orders.example.com grpc.health.v1.Health/Check --timeout 2s
    """
    with stopped():
        connection = Connection(read_target(target), Tokens(token), tuple(metadata or ()), contract)
        given = sys.stdin.read() if request == "-" else request
        error = asyncio.run(_call(connection, method, given, _seconds(timeout)))
    if error is not None:
        typer.echo(describe(error), err=True)
        raise typer.Exit(1)


async def _call(connection: Connection, method: str, text: str, timeout: float | None) -> Error | None:
    metadata = metadata_of(connection)
    transport = connection.transport()
    try:
        contract = await read_contract(connection, transport, metadata)
        operation = find_operation(contract, method)
        (request,) = requests_of(operation, text)
        if timeout is None and operation.timeout is not None:
            timeout = operation.timeout.total_seconds()
        return await _send(transport, operation, request, metadata, timeout)
    finally:
        await transport.close()


async def _send(
    transport: GrpcTransport,
    operation: "Operation",
    request: "Message[Any]",
    metadata: Metadata,
    timeout: float | None,
) -> Error | None:
    sent = begin(operation, request, metadata, timeout)
    registry = registry_of(operation.reply_type)
    try:
        reply: Any = await transport.handler(operation)(sent)
        if operation.kind.server_streams:
            async with closing(reply):
                async for message in reply:
                    typer.echo(json.dumps(json.loads(to_json(message, registry)), ensure_ascii=False))
        else:
            typer.echo(json.dumps(json.loads(to_json(reply, registry)), indent=2, ensure_ascii=False))
    except Error as error:
        sent.end(error)
        return error
    sent.end()
    return None


def describe(error: Error) -> str:
    """Return the lines that tell a person of an error: code, message, reason, fields, when to try again."""
    lines = [f"{error.code.name}: {error.message}" if error.message else error.code.name]
    lines.append(f"reason: {error.reason}" + (f" ({error.domain})" if error.domain else ""))
    lines += [f"  {each.field}: {each.description}" for each in error.violations]
    if error.retry_after is not None:
        lines.append(f"retry after {error.retry_after.total_seconds():g} s")
    return "\n".join(lines)


def metadata_of(connection: Connection) -> Metadata:
    """Return what each call carries; Refused where it can't travel."""
    metadata = Metadata()
    for each in connection.metadata:
        name, equals, value = each.partition("=")
        if not equals:
            raise Refused(f"{each!r} is no metadata; write NAME=VALUE")
        _add(metadata, name.strip(), value)
    token = connection.token.read()
    if token is not None:
        _add(metadata, "authorization", f"Bearer {token}")
    return metadata


def _add(metadata: Metadata, name: str, value: str) -> None:
    try:
        metadata.add(name, value)
    except ValueError as error:
        raise Refused(str(error)) from error


async def read_contract(connection: Connection, transport: GrpcTransport, metadata: Metadata) -> "Contract":
    """Return the contract that was named, else the target's own; Unreachable where it does not tell."""
    if connection.contract is not None:
        return _named(connection.contract)
    try:
        return await reflected(transport, metadata=metadata)
    except Error as error:
        raise Unreachable(
            f"{connection.target} does not tell its contract; name one with --contract\n{describe(error)}"
        ) from error


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
