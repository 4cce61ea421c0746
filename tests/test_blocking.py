"""The blocking twin of a client, as scripts and notebooks use it."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator

import pytest

from interlock import Code, Deadline, DeadlineExceeded, NotFound, blocking, current_call, in_thread
from interlock.blocking import Blocking
from interlock.call import Call
from interlock.server import serving
from tests.sample.gen.sample.v1.sample_pb import ChatRequest, EchoRequest, SumRequest
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make


@pytest.fixture
def sample() -> Sample:
    """The handlers."""
    return Sample()


@pytest.fixture
def client(sample: Sample) -> Iterator[Blocking]:
    """A twin whose calls stay in this process."""
    with blocking(SampleServiceClient(make(sample))) as twin:
        yield twin


def eventually(sample: Sample) -> bool:
    """Wait until a handler was cancelled; blocking, as the code under test is."""
    ends = time.monotonic() + 5
    while not sample.cancelled and time.monotonic() < ends:
        time.sleep(0.01)
    return bool(sample.cancelled)


def test_a_method_waits_for_its_reply(client: Blocking) -> None:
    """Unary calls and uploads return the reply itself, and raise the typed error."""
    assert client.echo(text="x").text == "x"
    assert client.echo(EchoRequest(text="x")).text == "x"
    assert client.sum([SumRequest(number=1), SumRequest(number=2)]).sum == 3
    with pytest.raises(NotFound) as raised:
        client.get_thing(thing_id="nobody")
    assert raised.value.code is Code.NOT_FOUND
    with pytest.raises(TypeError, match="not both"):
        client.echo(EchoRequest(), text="x")


def test_views_and_full_replies_wait_too(client: Blocking) -> None:
    """A view is a twin as well, and `call` gives message and metadata."""
    view = client.using(metadata={"x-test-a": "1"}, timeout=5)
    assert isinstance(view, Blocking)
    reply = view.call(ECHO, EchoRequest(text="x"))
    assert reply.message.text == "x"
    assert reply.headers.get("reply-x-test-a") == "1"
    with pytest.raises(DeadlineExceeded):
        client.using(timeout=0.05).slow(seconds=60)


def test_streams_are_plain_iterators(client: Blocking, sample: Sample) -> None:
    """A stream is read with `for`, a talk too, and its error comes where it is read."""
    assert [each.number for each in client.count_up(count=3)] == [1, 2, 3]
    assert [each.text for each in client.chat([ChatRequest(text="a"), ChatRequest(text="b")])] == ["a", "b"]
    numbers = client.count_up(count=5, fail_after=1)
    assert next(numbers).number == 1
    with pytest.raises(NotFound):
        next(numbers)
    assert sample.finished == ["count_up"]


def test_a_stream_left_early_is_closed(client: Blocking, sample: Sample) -> None:
    """Breaking off a loop, and dropping what is left, ends the call on the other side."""
    for each in client.count_up(count=1_000_000):
        if each.number == 3:
            break
    gc.collect()
    assert eventually(sample)


def test_lists_are_plain_iterators(client: Blocking) -> None:
    """Items with `for`, the first page with `first()`, pages with `pages()`."""
    for number in range(3):
        client.create_thing(name=f"t{number}")
    listed = client.list_things(page_size=2)
    assert [each.name for each in listed] == ["t0", "t1", "t2"]
    assert [each.name for each in listed.first().things] == ["t0", "t1"]
    assert [len(page.things) for page in listed.pages()] == [2, 1]


async def test_inside_a_loop_it_is_refused(client: Blocking) -> None:
    """In a running event loop the client itself is the right one, and the message says so."""
    for call in (lambda: client.echo(text="x"), lambda: client.count_up(count=1), client.list_things):
        with pytest.raises(RuntimeError, match="use the client itself, with await"):
            call()


def test_a_misspelt_method_is_an_attribute_error(client: Blocking) -> None:
    """A name that the client does not have is told as on the client."""
    with pytest.raises(AttributeError, match="ecko"):
        client.ecko(text="x")


def test_threads_share_it(client: Blocking) -> None:
    """Several threads may call at once; none waits for another's call."""
    together = threading.Barrier(8)
    replies: list[str] = []

    def call(number: int) -> None:
        together.wait(5)
        replies.append(client.echo(text=str(number)).text)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(replies) == sorted(map(str, range(8)))


async def test_a_thread_beside_a_loop_calls_over_the_network() -> None:
    """Work that was moved to a thread uses the twin, and inherits the deadline of the call it belongs to."""
    sample = Sample()

    def work(target: str) -> str:
        with blocking(SampleServiceClient(target)) as twin:
            for number in range(3):
                twin.create_thing(name=f"t{number}")
            counted = [each.number for each in twin.count_up(count=3)]
            listed = [each.name for each in twin.list_things(page_size=2)]
            with pytest.raises(DeadlineExceeded):
                twin.slow(seconds=60)
            return f"{counted} {listed}"

    async with serving(make(sample)) as address:
        current_call.set(Call(SAMPLE_SERVICE.operation(ECHO), deadline=Deadline.after(1.0)))
        assert await asyncio.wait_for(in_thread(work, str(address)), 30) == "[1, 2, 3] ['t0', 't1', 't2']"
