"""The sample service's handlers: they do whatever a test asks of them, and remember what befell them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from interlock import App, Call, InvalidArgument, NotFound, Violation, current_call
from interlock.errors import error_class
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import (
    BlobRequest,
    BlobResponse,
    ChatRequest,
    ChatResponse,
    CountUpRequest,
    CountUpResponse,
    CreateThingRequest,
    EchoRequest,
    EchoResponse,
    FailRequest,
    FailResponse,
    GetThingRequest,
    ListThingsRequest,
    ListThingsResponse,
    SlowRequest,
    SlowResponse,
    SumRequest,
    SumResponse,
    Thing,
)
from tests.sample.gen.sample.v1.sample_rpc import SampleService


class Sample(SampleService):
    """Echoes, fails, waits, counts; `cancelled` lists why handlers were cancelled, `finished` what ran to its end."""

    def __init__(self) -> None:
        self.things: dict[str, Thing] = {}
        self.cancelled: list[str] = []
        self.finished: list[str] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Send back the request, and each metadata value under its name with `reply-` before it."""
        for name, value in call.metadata.items():
            if name.startswith("x-test-"):
                call.reply_headers.add(f"reply-{name}", value)
                call.reply_trailers.add(f"trailer-{name}", value)
        return EchoResponse.from_binary(request.to_binary())

    async def whisper(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Echo."""
        return await self.echo(request, call)

    async def echo_formerly(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Echo."""
        return await self.echo(request, call)

    async def fail(self, request: FailRequest, call: Call) -> FailResponse:
        """Fail as told."""
        if request.unexpected:
            raise RuntimeError(f"secret: {request.message}")
        if request.code:
            raise error_class(request.code)(
                request.message,
                reason=request.reason,
                violations=[Violation(field=each.field, description=each.description) for each in request.violations],
                retry_after=request.retry_after.to_timedelta() if request.retry_after else None,
                metadata=[("x-test-error", "yes")],
            )
        return FailResponse()

    async def slow(self, request: SlowRequest, call: Call) -> SlowResponse:
        """Wait, and remember how that ended."""
        try:
            await asyncio.sleep(request.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(call.cancellation.name if call.cancellation else "TASK")
            raise
        self.finished.append("slow")
        return SlowResponse()

    async def blob(self, request: BlobRequest, call: Call) -> BlobResponse:
        """Send zero bytes."""
        return BlobResponse(data=bytes(request.size))

    async def list_things(self, request: ListThingsRequest, call: Call) -> ListThingsResponse:
        """List by name."""
        names = sorted(self.things)
        token = request.page_token or "0"
        if not (token.isascii() and token.isdigit()):
            raise InvalidArgument(violations=[Violation(field="page_token", description="is none of ours")])
        start = int(token[:9])
        end = start + min(request.page_size or 50, 1000)
        return ListThingsResponse(
            things=[self.things[name] for name in names[start:end]],
            next_page_token=str(end) if end < len(names) else "",
            total_size=len(names),
        )

    async def create_thing(self, request: CreateThingRequest, call: Call) -> Thing:
        """Make a thing whose id is its name."""
        thing = Thing(thing_id=request.name, name=request.name, size=request.size, etag="1")
        self.things[thing.thing_id] = thing
        return thing

    async def get_thing(self, request: GetThingRequest, call: Call) -> Thing:
        """Find a thing."""
        if request.thing_id not in self.things:
            raise NotFound(f"no thing {request.thing_id!r}")
        return self.things[request.thing_id]

    async def count_up(self, request: CountUpRequest, call: Call) -> AsyncIterator[CountUpResponse]:
        """Count."""
        call.reply_headers.add("x-test-counting", "up")
        call.reply_trailers.add("x-test-counted", str(request.count))
        assert current_call.get() is call
        try:
            for number in range(1, request.count + 1):
                if request.pause:
                    await asyncio.sleep(request.pause.to_seconds())
                if request.fail_after and number > request.fail_after:
                    raise NotFound(f"nothing after {request.fail_after}")
                assert current_call.get() is call
                yield CountUpResponse(number=number)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(call.cancellation.name if call.cancellation else "TASK")
            raise
        self.finished.append("count_up")

    async def sum(self, requests: AsyncIterator[SumRequest], call: Call) -> SumResponse:
        """Add up."""
        numbers = [request.number async for request in requests]
        return SumResponse(sum=sum(numbers), count=len(numbers))

    async def chat(self, requests: AsyncIterator[ChatRequest], call: Call) -> AsyncIterator[ChatResponse]:
        """Answer each line."""
        async for request in requests:
            yield ChatResponse(text=request.text)


def make(sample: Sample | None = None, **options: Any) -> App:
    """Make the sample app, quiet, with the given options of `App`."""
    return App(sample or Sample(), **{"settings": Settings(), "access_log": False, **options})
