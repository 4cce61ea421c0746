"""The bulkhead: how many calls run, who waits, who is refused; held against a model."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock import App, Call, Deadline, Reply
from interlock.call import compose
from interlock.resilience.circuit_breaker import BreakerPolicy, Result, result_of
from interlock.resilience.concurrency import Bulkhead, BulkheadFull, BulkheadPolicy, concurrency
from interlock.testing import until
from tests.resilience.ground import operation, sent
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make

LONG = timedelta(seconds=60)


@given(st.lists(st.sampled_from(["ask", "leave", "cancel"]), max_size=40))
def test_places_are_given_in_order_and_never_too_many(steps: list[str]) -> None:
    """Two run, three wait, the rest is refused; whoever is cancelled while waiting leaves no gap."""
    asyncio.run(_held_against_a_model(steps))


async def _held_against_a_model(steps: list[str]) -> None:
    bulkhead = Bulkhead(BulkheadPolicy(calls=2, waiting=3, wait=LONG))
    running, queue = 0, list[asyncio.Task[bool]]()
    for step in steps:
        if step == "ask":
            if bulkhead.enter():
                assert not queue
                running += 1
                continue
            task = asyncio.create_task(bulkhead.wait(60))
            await asyncio.sleep(0)
            if len(queue) < 3:
                assert not task.done()
                queue.append(task)
            else:
                assert await task is False
        elif step == "leave" and running:
            bulkhead.leave()
            if queue:
                assert await queue.pop(0) is True
            else:
                running -= 1
        elif step == "cancel" and queue:
            task = queue.pop()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (bulkhead.running, bulkhead.waiting) == (running, len(queue))
        assert running <= 2
    for task in queue:
        task.cancel()
    await asyncio.gather(*queue, return_exceptions=True)


async def test_a_place_given_to_a_call_that_is_cancelled_at_once_is_not_lost() -> None:
    """The place is handed over and the call cancelled in one turn of the loop: the place is free again."""
    bulkhead = Bulkhead(BulkheadPolicy(calls=1, wait=LONG))
    assert bulkhead.enter()
    task = asyncio.create_task(bulkhead.wait(60))
    await until(lambda: bulkhead.waiting == 1)
    bulkhead.leave()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bulkhead.running == 0


async def test_waiting_ends_with_the_policy_or_the_deadline() -> None:
    """A call waits no longer than it may; the refusal is typed, unsent, final, and says nothing of the callee."""
    bulkhead = Bulkhead(BulkheadPolicy(calls=1, wait=LONG), "orders:8080")
    called = operation()

    async def answer(_call: Call) -> Reply:
        return EchoResponse()

    handler = compose([concurrency(bulkhead)], called, answer)
    first = sent(called)
    await handler(first)
    with pytest.raises(BulkheadFull, match="1 calls to orders:8080 run already") as refused:
        await handler(sent(called, deadline=Deadline.after(0.02)))
    assert refused.value.unsent
    assert refused.value.final
    assert result_of(refused.value) is Result.IGNORED
    assert bulkhead.refused == 1
    first.end()
    await handler(sent(called))


async def test_a_client_keeps_to_its_bulkhead() -> None:
    """With one place, the second call of a client waits until the first has ended, and is then made."""
    sample = Sample()
    app: App = make(sample)
    client = SampleServiceClient(app, bulkhead=BulkheadPolicy(calls=1, wait=LONG), breaker=BreakerPolicy())
    async with app, client:
        slow = asyncio.create_task(client.slow(seconds=30))
        await until(lambda: len(app.in_flight.calls) == 1)
        echo = asyncio.create_task(client.echo(text="x"))
        await asyncio.sleep(0.01)
        assert len(app.in_flight.calls) == 1
        slow.cancel()
        assert (await echo).text == "x"


def test_a_policy_that_makes_no_sense_is_refused() -> None:
    """Negative numbers are a ValueError."""
    with pytest.raises(ValueError, match="must not be negative"):
        BulkheadPolicy(calls=-1)
