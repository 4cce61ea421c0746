"""A target's contract, asked of the target itself over gRPC server reflection v1."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, Protocol

from protobuf import Oneof
from protobuf.wkt.google.protobuf.descriptor_pb import FileDescriptorProto, FileDescriptorSet

from interlock.call import Call, Direction, Handler
from interlock.contract.builtin import operations_of
from interlock.contract.declared import read
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb as v1
from interlock.contract.load import build
from interlock.contract.model import Contract, Operation
from interlock.contract.modules import installed
from interlock.deadline import Deadline
from interlock.errors import Error, Internal, NotFound, TooLarge, Unimplemented, error_class
from interlock.metadata import Metadata
from interlock.protocols.serving import closing

MOST_FILES = 1000
MOST_BYTES = 32 * 1024 * 1024


class Transport(Protocol):
    """What gives a handler for an operation."""

    def handler(self, operation: Operation) -> Handler:
        """Return the handler that sends calls of `operation`."""
        ...


async def reflected(transport: Transport, *, metadata: Metadata | None = None, timeout: float = 10.0) -> Contract:
    """Ask the target for the contract of all its services, within `timeout` seconds.

    Its rules are not checked: a neighbour's contract need not keep ours. At most MOST_FILES files and MOST_BYTES bytes
    are taken, else TooLarge; Unimplemented where the target has no reflection; any other `Error` as the call failed.
    """
    call = Call(_operation(), metadata.copy() if metadata is not None else Metadata(), Deadline.after(timeout))
    call.direction = Direction.SENT
    questions: asyncio.Queue[Any] = asyncio.Queue()
    call.request = _asked(questions)
    try:
        replies: Any = await transport.handler(call.operation)(call)
        async with closing(replies):
            files = await _collect(questions, replies)
            questions.put_nowait(None)
            async for _ in replies:  # to its end: a stream that is broken off looks like a failure to the target
                pass
    except Unimplemented as error:
        call.end(error)
        raise Unimplemented("the target has no gRPC reflection (grpc.reflection.v1)") from error
    except Error as error:
        call.end(error)
        raise
    call.end()
    image = FileDescriptorSet(file=_in_order(files)).to_binary()
    try:
        return build(read(image), image)
    except Exception as error:  # what a stranger sends can be wrong in any way
        raise Internal(f"what the target says of its contract can't be read: {error}") from error


def _operation() -> Operation:
    return operations_of(v1.desc())[0]


async def _asked(questions: "asyncio.Queue[Any]") -> AsyncIterator[Any]:
    while (question := await questions.get()) is not None:
        yield question


async def _collect(questions: "asyncio.Queue[Any]", replies: AsyncIterator[Any]) -> dict[str, FileDescriptorProto]:
    async def ask(field: Any, value: str) -> Any:
        questions.put_nowait(v1.ServerReflectionRequest(message_request=Oneof(field=field, value=value)))
        try:
            reply = (await anext(replies)).message_response
        except StopAsyncIteration:
            raise Internal("the target ended its reflection without an answer") from None
        if reply is None:
            raise Internal("the target answered nothing to a question of reflection")
        if reply.field == "error_response":
            raise error_class(reply.value.error_code)(f"{value}: {reply.value.error_message}")
        return reply.value

    found: dict[str, FileDescriptorProto] = {}
    size = 0
    services = [each.name for each in (await ask("list_services", "")).service]
    waiting = deque(("file_containing_symbol", name) for name in services)
    while waiting:
        field, name = waiting.popleft()
        if name in found:
            continue
        for data in await _files(ask, field, name):
            size += len(data)
            file = FileDescriptorProto.from_binary(data)
            found.setdefault(file.name, file)
            waiting.extend(("file_by_filename", each) for each in file.dependency if each not in found)
            if len(found) > MOST_FILES or size > MOST_BYTES:
                raise TooLarge(f"the target's contract is larger than {MOST_FILES} files or {MOST_BYTES} bytes")
    return found


async def _files(ask: Any, field: str, name: str) -> Sequence[bytes]:
    try:
        answer = await ask(field, name)
    except NotFound:
        known = installed(name) if field == "file_by_filename" else None
        if known is None:
            raise
        return [known.proto.to_binary()]  # some servers keep what everybody has to themselves
    return [bytes(each) for each in answer.file_descriptor_proto]


def _in_order(files: dict[str, FileDescriptorProto]) -> list[FileDescriptorProto]:
    """Put each file behind those it imports; the depth of imports is not bounded by the stack."""
    placed: dict[str, FileDescriptorProto] = {}
    waiting = sorted(files)
    while waiting:
        ready = [name for name in waiting if all(each in placed for each in files[name].dependency)]
        if not ready:
            raise Internal(f"the target's files import each other in a circle: {', '.join(_few(waiting))}")
        placed |= {name: files[name] for name in ready}
        waiting = [name for name in waiting if name not in placed]
    return list(placed.values())


def _few(names: Iterable[str]) -> list[str]:
    return list(names)[:5]
