"""The service of the conformance tests: it answers as each request says, and tells what it saw."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Iterable
from typing import Any

from interlock import App, Call, Metadata, Unimplemented
from interlock.errors import Error, error_class
from interlock.settings import Settings
from tests.conformance.gen.conformance.v1.conformance_pb import (
    Answer,
    CallRequest,
    CallResponse,
    Failure,
    Header,
    Seen,
)
from tests.conformance.gen.conformance.v1.conformance_rpc import ConformanceService


class Conformance(ConformanceService):
    """Answers by the request's `answer`; `cancelled` lists why handlers were, `seen` what each call showed."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.seen: list[Seen] = []

    async def unary(self, request: CallRequest, call: Call) -> CallResponse:
        """Answer once."""
        return await self._one([request], call)

    async def idempotent_unary(self, request: CallRequest, call: Call) -> CallResponse:
        """Answer once."""
        return await self._one([request], call)

    async def client_stream(self, requests: AsyncIterator[CallRequest], call: Call) -> CallResponse:
        """Answer once all is read."""
        return await self._one([each async for each in requests], call)

    async def server_stream(self, request: CallRequest, call: Call) -> AsyncIterator[CallResponse]:
        """Answer with each of the data."""
        async for each in self._many([request], call):
            yield each

    async def bidi_stream(self, requests: AsyncIterator[CallRequest], call: Call) -> AsyncIterator[CallResponse]:
        """Answer each request at once, or all at the end; what is left of the data comes at the end."""
        first = await anext(requests, None)
        read = [first] if first is not None else []
        if first is None or not first.full_duplex:
            read += [each async for each in requests]
            async for reply in self._many(read, call):
                yield reply
            return
        answer = first.answer or Answer()
        self._open(answer, call)
        data = iter(answer.data)
        request: CallRequest | None = first
        while request is not None:
            if (each := next(data, None)) is not None:
                await self._wait(answer, call)
                yield CallResponse(data=each, seen=self._note(read, call))
            elif answer.failure is not None:
                raise error_of(answer.failure)
            request = await anext(requests, None)
            if request is not None:
                read.append(request)
        for each in data:
            await self._wait(answer, call)
            yield CallResponse(data=each, seen=self._note(read, call))
        if answer.failure is not None:
            raise error_of(answer.failure)

    async def unimplemented(self, request: CallRequest, call: Call) -> CallResponse:
        """Refuse."""
        raise Unimplemented("this operation is not offered")

    async def _one(self, requests: list[CallRequest], call: Call) -> CallResponse:
        seen = self._note(requests, call)
        answer = (requests[0].answer if requests else None) or Answer()
        self._open(answer, call)
        await self._wait(answer, call)
        if answer.failure is not None:
            raise error_of(answer.failure)
        return CallResponse(data=answer.data[0] if answer.data else b"", seen=seen)

    async def _many(self, requests: list[CallRequest], call: Call) -> AsyncIterator[CallResponse]:
        seen: Seen | None = self._note(requests, call)
        answer = (requests[0].answer if requests else None) or Answer()
        self._open(answer, call)
        for each in answer.data:
            await self._wait(answer, call)
            yield CallResponse(data=each, seen=seen)
            seen = None
        if not answer.data:
            await self._wait(answer, call)
        if answer.failure is not None:
            raise error_of(answer.failure)

    def _open(self, answer: Answer, call: Call) -> None:
        _fill(call.reply_headers, answer.headers)
        _fill(call.reply_trailers, answer.trailers)

    async def _wait(self, answer: Answer, call: Call) -> None:
        if answer.delay is None:
            return
        try:
            await asyncio.sleep(answer.delay.to_seconds())
        except asyncio.CancelledError:
            self.cancelled.append(call.cancellation.name if call.cancellation else "TASK")
            raise

    def _note(self, requests: list[CallRequest], call: Call) -> Seen:
        left = call.deadline.remaining()
        seen = Seen(
            headers=[Header(name=name, values=values) for name, values in by_name(call.metadata).items()],
            timeout_ms=None if left == float("inf") else int(left * 1000),
            data=[each.data for each in requests],
        )
        self.seen.append(seen)
        return seen


def by_name(metadata: Metadata) -> dict[str, list[str]]:
    """Return every name with its values in the form of the wire."""
    found: dict[str, list[str]] = {}
    for name, value in metadata.raw:
        found.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    return found


def error_of(failure: Failure) -> Error:
    """Return the error that a failure describes."""
    metadata = [(each.name, as_value(each.name, value)) for each in failure.metadata for value in each.values]
    return error_class(failure.code)(failure.message, reason=failure.reason, metadata=metadata)


def as_value(name: str, text: str) -> str | bytes:
    """Return what metadata takes for a value in the form of the wire: bytes for base64 under a `-bin` name."""
    return b64decode(text + "=" * (-len(text) % 4)) if name.endswith("-bin") else text


def _fill(metadata: Metadata, headers: Iterable[Header]) -> None:
    for each in headers:
        for value in each.values:
            metadata.add(each.name, as_value(each.name, value))


def make(service: Conformance | None = None, **options: Any) -> App:
    """Make the app of the conformance tests, quiet, with the given options of `App`."""
    return App(service or Conformance(), **{"settings": Settings(), "access_log": False, **options})
