"""Access lines and the process's other logs: whole, parseable, one a call, and no burden to the calls."""

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from interlock import Call, Code, Error, Metadata, NotFound, Principal, Unavailable
from interlock.observability.logging import AccessLog, configure_logging, wants_json
from tests.sample.gen.sample.v1.sample_pb import CountUpRequest, FailRequest
from tests.sample.gen.sample.v1.sample_rpc import ECHO, FAIL, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import make
from tests.waiting import until

OPERATION = SAMPLE_SERVICE.operation(ECHO)
HOSTILE = [
    '"',
    "\\",
    "a\nb",
    "\r\n",
    "\x00",
    "\x1b[2J",
    "\u2028",
    "\ud800",
    "}{",
    "世界 🌍",
    "%s %d {0}",
    "x" * 100_000,
]


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


async def line_of(call: Call, error: Error | None = None, *, json_lines: bool = True) -> str:
    """Return the line that one ended call leaves."""
    written: list[str] = []
    access_log = AccessLog(written.append, json_lines=json_lines, batch=1)
    call.on_end(access_log.record)
    call.end(error)
    (text,) = written
    assert text.endswith("\n")
    return text[:-1]


async def test_a_line_tells_what_the_standard_asks_for() -> None:
    """Time, level, endpoint, protocol, status, duration and request id stand under their names."""
    call = Call(OPERATION, Metadata([("x-request-id", "r-1")]), protocol="grpc", principal=Principal(subject="Ada"))
    line = json.loads(await line_of(call, NotFound("no such thing", reason="NO_THING")))
    assert abs(datetime.fromisoformat(line.pop("timestamp")) - datetime.now(UTC)) < timedelta(seconds=5)
    assert 0 <= line.pop("response_time_ms") < 60_000
    assert line == {
        "level": "warning",
        "event": "call",
        "endpoint": "/sample.v1.SampleService/Echo",
        "protocol": "grpc",
        "status_code": "NOT_FOUND",
        "request_id": "r-1",
        "principal": "Ada",
        "reason": "NO_THING",
        "error": "no such thing",
    }


@pytest.mark.parametrize(
    "error, level", [(None, "info"), (NotFound(), "warning"), (Unavailable(), "error"), (Error(), "error")]
)
async def test_the_level_says_whose_fault_it_is(error: Error | None, level: str) -> None:
    """What the caller got wrong is a warning, what the service failed at an error."""
    assert json.loads(await line_of(Call(OPERATION), error))["level"] == level


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_json_line_is_one_line_of_json_whatever_it_tells(text: str) -> None:
    """Nothing in an error or a principal breaks a line in two or out of its string."""
    call = Call(OPERATION, principal=Principal(subject=text))
    line = await line_of(call, NotFound(text, reason=text))
    assert line.isascii()
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert (told["error"], told["reason"], told["principal"]) == (text, text, text)


@given(message=st.text(), request_id=st.binary(max_size=40))
def test_no_text_breaks_a_line(message: str, request_id: bytes) -> None:
    """Any message and any request id give one parseable line."""

    async def run() -> None:
        call = Call(OPERATION, Metadata.from_raw([(b"x-request-id", request_id)]))
        line = await line_of(call, NotFound(message))
        assert len(line.splitlines()) == 1
        assert json.loads(line)["error"] == message

    asyncio.run(run())


@pytest.mark.parametrize("text", HOSTILE)
async def test_a_readable_line_is_one_line_and_obeyed_by_no_terminal(text: str) -> None:
    """For people nothing is quoted, but line ends and control sequences are shown, not sent."""
    line = await line_of(Call(OPERATION), NotFound(text), json_lines=False)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    assert "NOT_FOUND" in line
    if text.isprintable():
        assert line.endswith(text)


async def test_lines_are_written_together() -> None:
    """Lines wait until a batch of them is there, and come in order, in one write."""
    written: list[str] = []
    access_log = AccessLog(written.append, batch=3, delay=60)
    for number in range(7):
        call = Call(OPERATION, Metadata([("x-request-id", f"r-{number}")]))
        call.on_end(access_log.record)
        call.end()
    ids = [[json.loads(line)["request_id"] for line in text.splitlines()] for text in written]
    assert ids == [["r-0", "r-1", "r-2"], ["r-3", "r-4", "r-5"]]
    access_log.flush()
    assert json.loads(written[2])["request_id"] == "r-6"
    access_log.flush()
    assert len(written) == 3


async def test_a_lonely_line_does_not_wait_long() -> None:
    """Without a batch a line is written after the delay."""
    written: list[str] = []
    access_log = AccessLog(written.append, delay=0.01)
    for _ in range(2):
        call = Call(OPERATION)
        call.on_end(access_log.record)
        call.end()
        assert not written
        await until(lambda: bool(written))
        written.clear()


async def test_a_stopped_app_has_written_all_its_lines() -> None:
    """What waits is written when the app stops; each call has one line, streams when they are over."""
    written: list[str] = []
    app = make(access_log=AccessLog(written.append, delay=60))
    async with app, SampleServiceClient(app) as client:
        await client.echo(text="x")
        with pytest.raises(NotFound):
            await client.call(FAIL, FailRequest(code=int(Code.NOT_FOUND)))
        async with client.count_up(CountUpRequest(count=3)) as numbers:
            assert [each.number async for each in numbers] == [1, 2, 3]
        assert not written
    lines = [json.loads(line) for line in "".join(written).splitlines()]
    assert [line["status_code"] for line in lines] == ["OK", "NOT_FOUND", "OK"]
    assert [line["endpoint"].rpartition("/")[2] for line in lines] == ["Echo", "Fail", "CountUp"]
    assert {line["protocol"] for line in lines} == {"in-process"}


@pytest.mark.parametrize("batch", [1, 64])
async def test_a_log_that_can_not_be_written_breaks_no_call(batch: int, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk or a closed pipe is told where it can be, and calls go on."""

    def write(_text: str) -> None:
        raise BrokenPipeError("nobody reads")

    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    app = make(access_log=AccessLog(write, batch=batch, delay=0.01))
    await app.start()
    async with SampleServiceClient(app) as client:
        for _ in range(3):
            assert (await client.echo(text="still there")).text == "still there"
    if batch == 1:
        assert "nobody reads" in caplog.text
    else:
        await until(lambda: bool(told))
        assert isinstance(told[0], BrokenPipeError)


def test_auto_is_pretty_in_a_terminal_only() -> None:
    """`auto` looks at the stream; the other forms do as they say."""
    assert wants_json("auto", StringIO())
    assert not wants_json("auto", Terminal())
    assert wants_json("json", Terminal())
    assert not wants_json("pretty", StringIO())


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """Put the process's logging back after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.usefixtures("logging_as_before")
def test_all_logs_of_a_process_take_one_form() -> None:
    """Lines of the standard library and of structlog are JSON with the same names, tracebacks within the line."""
    stream = StringIO()
    configure_logging("info", "json", stream)
    logging.getLogger("somebody").warning("%s of %d", 'a "half"', 2, extra={"order": 7})
    structlog.get_logger("mine").info("paid", amount=3)
    logging.getLogger("somebody").debug("not shown")
    try:
        int("broken\nin two")
    except ValueError:
        logging.getLogger("somebody").exception("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ['a "half" of 2', "paid", "failed"]
    assert [line["level"] for line in lines] == ["warning", "info", "error"]
    assert (lines[0]["order"], lines[1]["amount"]) == (7, 3)
    assert "ValueError: invalid literal" in lines[2]["exception"]
    assert all("timestamp" in line and "logger" in line for line in lines)


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("no_color", [False, True])
def test_pretty_logs_have_colours_in_a_terminal_only(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours need a terminal and no NO_COLOR (no-color.org)."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    for stream in (Terminal(), StringIO()):
        configure_logging("info", "pretty", stream)
        logging.getLogger("somebody").warning("careful")
        assert "careful" in stream.getvalue()
        assert ("\x1b[" in stream.getvalue()) is (isinstance(stream, Terminal) and not no_color)


def test_a_terminal_obeys_no_text_of_a_line() -> None:
    """Nothing that came from outside clears the screen, or passes for a line of its own."""
    root, stream = logging.getLogger(), StringIO()
    before, level = root.handlers[:], root.level
    try:
        configure_logging("info", "pretty", stream)
        logging.getLogger("theirs").warning(
            "got %s", "a\n2026-01-01 [info] all is well\x1b[2J", extra={"of": "\x1b[1mx"}
        )
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = stream.getvalue().splitlines()
    assert first.endswith("got a")
    assert second.startswith("    2026-01-01")
    assert "\x1b" not in stream.getvalue()
    assert "\\x1b[2J" in second
