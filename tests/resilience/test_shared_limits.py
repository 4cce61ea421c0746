"""Rate limits that several processes and hosts keep together, and what happens when Redis is away."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from interlock import Call, Principal, ResourceExhausted, Unavailable
from interlock.call import compose
from interlock.contract.model import RateLimit
from interlock.metadata import Metadata
from interlock.resilience.host_limit import HostLimit, HostTable
from interlock.resilience.rate_limit import LATELY, Limiter, Peak, SlidingLimit, rate_limit
from interlock.resilience.redis_limit import AWAY, RedisCounts
from interlock.testing import FaultyProxy
from tests.resilience.ground import Callee, ManualClock, operation

PER = timedelta(seconds=16)
ARRIVALS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("abc")), max_size=80)
_WORKER = """
import json, sys
from datetime import timedelta
from pathlib import Path
from interlock.resilience.host_limit import HostLimit, HostTable
limit = HostLimit(HostTable(Path(sys.argv[1])), "/p.S/M", 500, timedelta(hours=1))
sys.stdin.readline()
print(json.dumps([sum(limit.take(caller).allowed for _ in range(400)) for caller in ("one", "two")]))
"""


@given(st.integers(1, 6), ARRIVALS)
def test_the_table_counts_as_one_process_does(requests: int, arrivals: list[tuple[int, str]]) -> None:
    """Two who share the file give, in turn, what one limit in memory gives, call by call."""
    clock = ManualClock()
    alone = SlidingLimit(requests, PER, clock=clock)
    path = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"interlock-{uuid4().hex}"  # noqa: PTH112
    tables = [HostTable(path, rows=8) for _ in range(2)]
    try:
        limits = [HostLimit(table, "x", requests, PER, clock=clock) for table in tables]
        for turn, (quarters, caller) in enumerate(arrivals):
            clock.now += quarters / 4
            assert limits[turn % 2].take(caller) == alone.take(caller)
    finally:
        for table in tables:
            table.close()
        path.unlink(missing_ok=True)


def test_two_processes_together_never_exceed_a_limit(tmp_path: Path) -> None:
    """Both ask 400 times at once for each of two callers; together each caller gets exactly the limit."""
    command = [sys.executable, "-c", _WORKER, str(tmp_path / "limits")]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for each in workers:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    got = [json.loads(each.communicate(timeout=60)[0]) for each in workers]
    assert [sum(column) for column in zip(*got, strict=True)] == [500, 500]


def test_the_quietest_are_forgotten_when_a_row_is_full(tmp_path: Path) -> None:
    """A table of four callers takes any number; those still known keep their counts."""
    clock = ManualClock()
    table = HostTable(tmp_path / "limits", rows=1)
    limit = HostLimit(table, "x", 1, PER, clock=clock)
    for caller in range(20):
        clock.now += 2
        assert limit.take(caller).allowed
    assert [limit.take(caller).allowed for caller in (19, 18, 17, 16)] == [False] * 4
    table.close()
    assert not limit.take(19).allowed  # opened again, nothing is lost
    table.close()


def test_the_limit_is_that_of_a_moving_window() -> None:
    """As many pass at once as the reference lets pass, for every caller."""
    reference, ours = MovingWindowRateLimiter(MemoryStorage()), SlidingLimit(7, timedelta(seconds=60))
    item = RateLimitItemPerSecond(7, 60)
    for caller in "abaabbaababbabababaabbbbaa":
        assert ours.take(caller).allowed is reference.hit(item, caller)


async def test_workers_of_one_host_share_the_limit_of_an_app(tmp_path: Path) -> None:
    """Callers are told the whole limit by each of two workers, and get it once."""
    called = operation(rate_limit=RateLimit(requests=3, per=PER))
    limiters = [Limiter(workers=2, shared=tmp_path / "limits") for _ in range(2)]
    chains = [compose([rate_limit(each)], called, Callee()) for each in limiters]
    passed = 0
    for turn in range(6):
        call = Call(called)
        try:
            await chains[turn % 2](call)
        except ResourceExhausted:
            pass
        else:
            passed += 1
        assert call.reply_headers.get("ratelimit-policy") == '"default";q=3;w=16'
    assert passed == 3
    assert limiters[0].used() == {(called.path,): 1.0}
    for each in limiters:
        await each.close()


@pytest.mark.parametrize("by, passed", [("principal", 1), ("key", 2), ("address", 1)])
async def test_who_a_caller_is(by: str, passed: int) -> None:
    """A principal with two API keys has one limit, or one for each key; an address has one for all."""
    called = operation(rate_limit=RateLimit(requests=1, per=PER))
    chain = compose([rate_limit(Limiter(by=by))], called, Callee())  # type: ignore[arg-type]  # parametrized
    through = 0
    for key in ("k1", "k2"):
        call = Call(called, Metadata([("x-api-key", key)]), principal=Principal(subject="shop"))
        try:
            await chain(call)
        except ResourceExhausted:
            continue
        through += 1
    assert through == passed


def test_the_highest_use_is_shown_for_a_while() -> None:
    """The peak stays for a minute at least, and is gone after two."""
    clock = ManualClock()
    peak = Peak(clock)
    peak.note(0.5)
    peak.note(0.2)
    clock.now += LATELY + 1
    assert peak.read() == 0.5
    peak.note(0.3)
    assert peak.read() == 0.5
    clock.now += LATELY
    assert peak.read() == 0.3
    clock.now += 2 * LATELY
    assert peak.read() == 0.0


# --- Redis --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def redis_between(proxy: Callable[[str, int], Awaitable[FaultyProxy]]) -> FaultyProxy:
    """A proxy in front of a real Redis; the test is skipped, loudly, where there is none."""
    port = int(os.environ.get("INTERLOCK_TEST_REDIS_PORT", "6379"))
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        pytest.skip(f"NOT TESTED on Redis: none answers at 127.0.0.1:{port}; start one: redis-server --port {port}")
    writer.close()
    return await proxy("127.0.0.1", port)


def hosts(between: FaultyProxy, *, closed: bool = False, clock: ManualClock | None = None) -> list[Limiter]:
    """Return the limiters of two hosts."""
    given = {} if clock is None else {"clock": clock}
    return [Limiter(redis=RedisCounts(f"redis://{between.address}/0", closed=closed, **given)) for _ in range(2)]


async def ask(limiter: Limiter, called: object, times: int) -> int:
    """Call so many times at once; return how many passed."""
    chain = compose([rate_limit(limiter)], called, Callee())  # type: ignore[arg-type]  # an operation
    results = await asyncio.gather(*(chain(Call(called)) for _ in range(times)), return_exceptions=True)  # type: ignore[arg-type]
    assert all(not isinstance(each, BaseException) or isinstance(each, ResourceExhausted) for each in results), results
    return sum(not isinstance(each, BaseException) for each in results)


async def test_two_hosts_together_never_exceed_a_limit(redis_between: FaultyProxy) -> None:
    """Each asks for the whole at the same time, and both get it together."""
    called = operation(rate_limit=RateLimit(requests=20, per=timedelta(minutes=5)), name=f"Echo{uuid4().hex}")
    both = hosts(redis_between)
    got = await asyncio.gather(*(ask(each, called, 20) for each in both))
    assert sum(got) == 20
    with pytest.raises(ResourceExhausted) as refused:
        await compose([rate_limit(both[0])], called, Callee())(Call(called))
    assert refused.value.retry_after is not None
    assert timedelta(minutes=4) < refused.value.retry_after <= timedelta(minutes=6)
    for each in both:
        await each.close()


async def test_the_window_slides_in_redis(redis_between: FaultyProxy) -> None:
    """What was used comes back when the window is over."""
    called = operation(rate_limit=RateLimit(requests=2, per=timedelta(seconds=0.4)), name=f"Echo{uuid4().hex}")
    limiter, other = hosts(redis_between)
    assert await ask(limiter, called, 5) == 2
    await asyncio.sleep(0.45)
    assert await ask(limiter, called, 5) == 2
    for each in (limiter, other):
        await each.close()


async def test_while_redis_is_away_the_setting_holds(
    redis_between: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Open: each host keeps the limit by itself. Closed: UNAVAILABLE. Said once, and again when it is back."""
    clock = ManualClock()
    called = operation(rate_limit=RateLimit(requests=5, per=timedelta(minutes=5)), name=f"Echo{uuid4().hex}")
    open_, other = hosts(redis_between, clock=clock)
    assert await ask(open_, called, 2) == 2
    await redis_between.stop()
    with caplog.at_level(logging.WARNING, "interlock.limits"):
        assert [await ask(each, called, 10) for each in (open_, other)] == [5, 5]
        closed, _ = hosts(redis_between, closed=True, clock=clock)
        with pytest.raises(Unavailable, match="limits can't be checked") as refused:
            await compose([rate_limit(closed)], called, Callee())(Call(called))
        assert refused.value.retry_after == timedelta(seconds=AWAY)
        said = [each.message for each in caplog.records]
        assert len(said) == 3  # once for each of the three hosts
        assert "each host keeps the limits for itself" in said[0]
        assert "calls with a limit are refused" in said[2]
        await redis_between.start()
        clock.now += AWAY
        assert await ask(closed, called, 10) == 3
        assert "answers again" in caplog.records[-1].message
    for each in (open_, other, closed):
        await each.close()
