"""Work in a thread is told when its call is over, and holds nobody up."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from interlock import Call, DeadlineExceeded, current_call, in_thread
from interlock.server import serving
from interlock.testing import until
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make


class Working(Sample):
    """Echoes after work in a thread that goes on until it is told that nobody waits."""

    def __init__(self) -> None:
        super().__init__()
        self.running = 0
        self.told: list[str] = []

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        """Work."""
        await in_thread(self.work)
        return EchoResponse(text=request.text)

    def work(self) -> None:
        """Look now and then, for a minute at most."""
        call = current_call.get()
        assert call is not None
        assert threading.current_thread() is not threading.main_thread()
        self.running += 1
        ends = time.monotonic() + 60
        while not call.over and time.monotonic() < ends:
            time.sleep(0.01)
        time.sleep(0.2)  # an answer right at the deadline might still be in time
        self.told.append(call.cancellation.name if call.cancellation is not None else "")
        self.running -= 1


@pytest.mark.parametrize("over", ["grpc", "connect", "in process"])
async def test_a_thread_is_told_of_the_deadline(over: str) -> None:
    """The caller has its answer then, the thread ends soon after."""
    sample = Working()
    app = make(sample)
    async with serving(app) as address:
        target = {"grpc": str(address), "connect": address.url}.get(over, app)
        async with SampleServiceClient(target) as client:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await client.using(timeout=0.3).echo(text="x")
            assert time.monotonic() - began < 10
        await until(lambda: sample.told and not sample.running)


async def test_a_thread_is_told_that_the_caller_left() -> None:
    """Long before the deadline."""
    sample = Working()
    async with serving(make(sample)) as address, SampleServiceClient(str(address)) as client:
        asking = asyncio.create_task(client.using(timeout=60).echo(text="x"))
        await until(lambda: sample.running)
        asking.cancel()
        await until(lambda: sample.told)
        assert sample.told == ["CLIENT_GONE"]


async def test_work_that_waits_for_a_thread_is_never_begun_once_its_call_is_over() -> None:
    """A pool that is taken up by slow work does not do in the end what nobody wants any more."""
    free = threading.Event()
    begun: list[str] = []
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(1)
    loop.set_default_executor(pool)
    hog = asyncio.create_task(in_thread(free.wait, 60))
    second = asyncio.create_task(in_thread(begun.append, "second"))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    free.set()
    await hog
    assert await in_thread(lambda: list(begun)) == []


def test_a_call_is_over_when_nobody_waits() -> None:
    """Ended, or past its deadline."""
    call = Call(make()._services.operations[0])
    assert not call.over
    call.end()
    assert call.over
