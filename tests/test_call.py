"""Calls: what happens at their end, forks, chains, detached work, request ids."""

import asyncio
import gc
import logging
import re
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

import pytest

from interlock import Call, Cancellation, Code, Deadline, Metadata, NotFound, Outcome, Principal, Reply, current_call
from interlock.call import Handler, Layer, Middleware, Peer, compose, detached, in_thread
from interlock.contract.model import Operation
from interlock.stamps import uuid7
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, SLOW
from tests.waiting import until

OPERATION = SAMPLE_SERVICE.operation(ECHO)
UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


def call_with(*pairs: tuple[str, str | bytes]) -> Call:
    """Return a call with that metadata."""
    return Call(OPERATION, Metadata(pairs))


def test_what_came_last_is_told_first_and_once() -> None:
    """Callbacks run last in, first out, with the outcome, and a second end changes nothing."""
    told: list[tuple[str, Code]] = []
    call = call_with()
    for name in ("first", "second", "third"):
        call.on_end(lambda outcome, name=name: told.append((name, outcome.code)))  # type: ignore[misc]  # bound early
    call.end(NotFound("gone"))
    call.end()
    assert told == [("third", Code.NOT_FOUND), ("second", Code.NOT_FOUND), ("first", Code.NOT_FOUND)]


def test_an_outcome_knows_its_call_and_duration() -> None:
    """An outcome holds the call, how long it ran and OK where there is no error."""
    outcomes: list[Outcome] = []
    call = call_with()
    call.on_end(outcomes.append)
    call.end()
    assert outcomes[0].call is call
    assert outcomes[0].code is Code.OK
    assert 0 <= outcomes[0].duration < 60


@pytest.mark.parametrize("broken", [ValueError("no"), asyncio.CancelledError()])
def test_a_broken_callback_keeps_no_other_from_running(broken: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """What a callback raises is logged, also what reading a cancelled future raises, and the rest still run."""

    def fail(_outcome: Outcome) -> None:
        raise broken

    told: list[Code] = []
    call = call_with()
    call.on_end(lambda outcome: told.append(outcome.code))
    call.on_end(fail)
    with caplog.at_level(logging.ERROR):
        call.end()
    assert told == [Code.OK]
    assert "on_end of /sample.v1.SampleService/Echo failed" in caplog.text


def test_on_end_after_the_end_is_refused() -> None:
    """A callback that could never run is a mistake, told at once; from inside another callback too."""
    call = call_with()
    refused: list[str] = []

    def late(_outcome: Outcome) -> None:
        with pytest.raises(RuntimeError, match="too late") as raised:
            call.on_end(late)
        refused.append(str(raised.value))

    call.on_end(late)
    call.end()
    assert len(refused) == 1
    with pytest.raises(RuntimeError, match="Echo has ended"):
        call.on_end(late)


def test_a_fork_shares_the_request_and_owns_the_rest() -> None:
    """An attempt has request, deadline, principal and id of its call; metadata, replies and callbacks are its own."""
    told: list[str] = []
    call = Call(OPERATION, Metadata([("x-a", "1")]), Deadline(5.0), request=object(), principal=Principal(subject="me"))
    call.wants_metadata = True
    request_id = call.request_id
    call.on_end(lambda _: told.append("call"))
    fork = call.fork()
    fork.metadata.add("x-attempt", "2")
    fork.reply_headers.add("x-reply", "1")
    fork.on_end(lambda _: told.append("fork"))
    fork.end()
    assert told == ["fork"]
    assert (fork.request, fork.deadline, fork.principal) == (call.request, call.deadline, call.principal)
    assert fork.request_id == request_id
    assert fork.wants_metadata
    assert "x-attempt" not in call.metadata
    assert "x-reply" not in call.reply_headers
    call.end()
    assert told == ["fork", "call"]


async def test_the_first_reason_of_a_cancellation_stands() -> None:
    """A call is cancelled once, for one reason; an ended call not at all."""
    call = call_with()
    call.task = asyncio.create_task(asyncio.sleep(60))
    call.cancel(Cancellation.DEADLINE)
    call.cancel(Cancellation.DRAIN)
    assert call.cancellation is Cancellation.DEADLINE
    with pytest.raises(asyncio.CancelledError):
        await call.task
    ended = call_with()
    task = ended.task = asyncio.create_task(asyncio.sleep(0))
    ended.end()
    ended.cancel(Cancellation.DRAIN)
    assert ended.cancellation is None
    await task


async def test_a_task_cancelled_from_outside_means_that_the_client_is_gone() -> None:
    """A server that cancels the task itself does so because nobody waits any more."""
    call = call_with()
    call.task = asyncio.create_task(asyncio.sleep(60))
    call.task.cancel()
    assert call.cancellation is Cancellation.CLIENT_GONE
    with pytest.raises(asyncio.CancelledError):
        await call.task


async def test_a_chain_runs_outermost_first_and_leaves_none_out() -> None:
    """Layers are asked once per operation, in their order; one that answers None is not in that chain."""
    asked: list[str] = []
    ran: list[str] = []

    def layer(name: str, wanted: Callable[[Operation], bool] = lambda _: True) -> Layer:
        def ask(operation: Operation) -> Middleware | None:
            asked.append(f"{name} {operation.name}")

            async def middleware(call: Call, proceed: Handler) -> Reply:
                ran.append(name)
                return await proceed(call)

            return middleware if wanted(operation) else None

        return ask

    async def handler(_call: Call) -> Reply:
        ran.append("handler")
        return EchoResponse(text="done")

    layers = [layer("outer"), layer("slow only", lambda operation: operation.name == "Slow"), layer("inner")]
    echo = compose(layers, OPERATION, handler)
    slow = compose(layers, SAMPLE_SERVICE.operation(SLOW), handler)
    assert sorted(asked) == sorted(
        f"{name} {each}" for name in ("outer", "slow only", "inner") for each in ("Echo", "Slow")
    )
    for _ in range(2):
        await echo(call_with())
    assert ran == ["outer", "inner", "handler"] * 2
    ran.clear()
    await slow(call_with())
    assert ran == ["outer", "slow only", "inner", "handler"]
    assert len(asked) == 6


async def test_no_layers_are_no_chain() -> None:
    """Without layers the handler itself is the chain."""

    async def handler(_call: Call) -> Reply:
        return EchoResponse()

    assert compose([], OPERATION, handler) is handler
    assert compose([lambda _: None], OPERATION, handler) is handler


async def test_detached_work_outlives_its_call_and_inherits_nothing() -> None:
    """Detached work runs on after its starter was cancelled, and sees no current call and no context of it."""
    mine: ContextVar[str] = ContextVar("mine", default="nothing")
    go = asyncio.Event()
    seen: list[object] = []

    async def work() -> None:
        await go.wait()
        seen.append((current_call.get(), mine.get()))

    async def handler() -> None:
        current_call.set(call_with())
        mine.set("set")
        _ = detached(work())
        await asyncio.sleep(60)

    task = asyncio.create_task(handler())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await until(lambda: bool(seen))
    assert seen == [(None, "nothing")]


async def test_detached_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for detached work, so its failure stands in the log; a cancellation does not."""

    async def fail() -> None:
        raise ValueError("the mail server is gone")

    async def wait() -> None:
        await asyncio.sleep(60)

    cancelled = detached(wait())
    await asyncio.sleep(0)
    cancelled.cancel()
    failed = detached(fail())
    await asyncio.wait([failed, cancelled])
    await asyncio.sleep(0)
    assert "the mail server is gone" in caplog.text
    assert caplog.text.count("detached work failed") == 1


async def test_a_thread_sees_the_call() -> None:
    """Blocking work runs beside the loop, with the call's context and its arguments, and its errors come back."""
    call = call_with()
    current_call.set(call)

    def work(number: int, *, word: str) -> tuple[Call | None, int, str]:
        return current_call.get(), number, word

    assert await in_thread(work, 1, word="a") == (call, 1, "a")
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


def test_a_uuid7_has_its_shape_and_time() -> None:
    """Version, variant and the milliseconds of now stand where RFC 9562 §5.7 wants them."""
    made = uuid7()
    assert UUID7.match(made)
    milliseconds = int(made.replace("-", "")[:12], 16)
    when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    assert abs(datetime.now(UTC) - when) < timedelta(seconds=5)


def test_uuid7s_sort_by_the_millisecond_and_never_repeat() -> None:
    """Ids of a later millisecond sort behind; of ten thousand none is there twice."""
    before = [uuid7() for _ in range(5000)]
    now = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= now:
        pass
    after = [uuid7() for _ in range(5000)]
    assert max(before) < min(after)
    assert len({*before, *after}) == 10_000


@pytest.mark.parametrize("given", ["a", "0198c2f2-7a31-7c5e-8a11-0123456789ab", "AZaz09._~+/=:@-", "x" * 128])
def test_a_sound_request_id_is_kept(given: str) -> None:
    """The caller's id is the call's."""
    assert call_with(("x-request-id", given)).request_id == given


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"x" * 129,
        b"a b",
        b'a"b',
        b"a\nb",
        b"a\n",
        b"a\\b",
        b"<script>",
        b"a\x00b",
        b"a\x1b[31m",
        "ä".encode(),
        b"{}",
    ],
)
def test_a_hostile_request_id_is_replaced(given: bytes) -> None:
    """What could break a log line, a header or a page is not taken over, whatever bytes came from the wire."""
    call = Call(OPERATION, Metadata.from_raw([(b"x-request-id", given)]))
    assert UUID7.match(call.request_id)
    assert call.request_id == call.request_id


def test_a_peer_tells_only_what_the_server_knows() -> None:
    """Address and certificates come from the scope; an IPv6 host stands in brackets; nothing known is nothing told."""
    assert Peer().address == ""
    assert Peer().certificates == ()
    assert Peer({"client": None, "extensions": {"tls": None}}).address == ""
    assert Peer({"client": ("10.0.0.1", 4711)}).address == "10.0.0.1:4711"
    assert Peer({"client": ("::1", 4711)}).address == "[::1]:4711"
    assert Peer({"extensions": {"tls": {"client_cert_chain": ["pem"]}}}).certificates == ("pem",)


async def test_an_ended_call_leaves_no_cycle() -> None:
    """A call whose task holds it is freed as soon as both are done, without the collector."""

    async def serve() -> "weakref.ref[asyncio.Task[None]]":
        call = call_with()
        call.task = asyncio.current_task()
        current_call.set(call)
        call.end()
        return weakref.ref(asyncio.current_task())  # type: ignore[arg-type]

    gc.disable()
    try:
        left = await asyncio.create_task(serve())
        await asyncio.sleep(0)
        assert left() is None
    finally:
        gc.enable()
