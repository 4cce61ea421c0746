"""Fault injection: the share that is hit, what befalls it, and where there is nothing to inject."""

from datetime import timedelta

import pytest

from interlock import DeadlineExceeded, Unavailable
from interlock.call import Call, compose
from interlock.defaults import after
from interlock.errors import Code
from interlock.resilience.faults import Faults, faults
from interlock.resilience.retry import RetryPolicy
from tests.resilience.ground import Callee, operation
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make


async def test_a_share_of_the_calls_fails() -> None:
    """With a share of one half every second draw is hit; the handler never sees those calls."""
    draws = iter([0.1, 0.9] * 10)
    callee, failed = Callee(), 0
    chain = compose([faults(Faults(share=0.5, code=Code.UNAVAILABLE), random=lambda: next(draws))], operation(), callee)
    for _ in range(20):
        try:
            await chain(Call(operation()))
        except Unavailable:
            failed += 1
    assert (failed, len(callee.calls)) == (10, 10)


async def test_a_delay_ends_at_the_deadline() -> None:
    """A call delayed beyond its deadline ends as any late call does."""
    app = make(layers=[after("deadline", faults(Faults(share=1, delay=timedelta(seconds=60))))])
    async with app, SampleServiceClient(app, retries=RetryPolicy(retries=0)) as client:
        with pytest.raises(DeadlineExceeded):
            await client.using(timeout=0.05).echo(text="x")


def test_where_there_is_nothing_to_inject_there_is_no_layer() -> None:
    """A share of nothing, or another operation, leaves the layer out; nonsense is refused."""
    assert faults(Faults(share=0))(operation()) is None
    assert faults(Faults(share=1, operations=["/other.Service/Call"]))(operation()) is None
    with pytest.raises(ValueError, match="share"):
        Faults(share=2)
    with pytest.raises(TypeError, match="several paths"):
        Faults(share=1, operations="/a.B/C")
