"""Callers over every protocol who call again and again, and keep count of every call that was refused."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from grpc import aio

from interlock.server import Address
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.waiting import until

RPC = "/sample.v1.SampleService/Whisper"
Ask = Callable[[], Awaitable[str]]
Show = Callable[[], Mapping[str, str]]
"""Gives the headers of the next call."""


class Load:
    """What came of the calls so far: how many by each caller, and all that did not succeed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.refused: list[str] = []

    async def more(self, calls: int = 10) -> None:
        """Wait until every caller has begun and ended so many more calls; AssertionError once one was refused."""
        wanted = {caller: count + calls + 1 for caller, count in self.counts.items()}
        await until(lambda: self.refused or all(self.counts[each] >= count for each, count in wanted.items()), 60)
        assert not self.refused, self.refused

    async def call(self, caller: str, ask: Ask) -> None:
        """Call for ever."""
        while True:
            try:
                outcome = await ask()
            except Exception as error:
                outcome = repr(error)
            if outcome != "OK":
                self.refused.append(f"{caller}: {outcome}")
                return
            self.counts[caller] += 1


@asynccontextmanager
async def calling(callers: Mapping[str, Ask]) -> AsyncIterator[Load]:
    """Call with all of them at a time while the block runs; AssertionError if a call was refused."""
    load = Load()
    load.counts.update(dict.fromkeys(callers, 0))
    tasks = [asyncio.create_task(load.call(name, ask)) for name, ask in callers.items()]
    try:
        yield load
        await load.more()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def whispering(address: Address, show: Show) -> AsyncIterator[Load]:
    """Call Whisper over REST, Connect and gRPC, without retries, with the headers that `show` gives each time."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=address.url, timeout=30))
        channel = await stack.enter_async_context(aio.insecure_channel(str(address)))
        stub = channel.unary_unary(RPC, EchoRequest.to_binary, EchoResponse.from_binary)

        async def posted(path: str) -> str:
            answer = await http.post(path, json={"text": "hush"}, headers=dict(show()))
            return "OK" if answer.status_code == 200 else f"{answer.status_code} {answer.text}"

        async def called() -> str:
            await stub(EchoRequest(text="hush"), metadata=tuple(show().items()), timeout=30)
            return "OK"

        callers: dict[str, Ask] = {
            "rest": lambda: posted("/v1/whisper"),
            "connect": lambda: posted(RPC),
            "grpc": called,
        }
        yield await stack.enter_async_context(calling(callers))
