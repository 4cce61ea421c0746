"""A log that is slow, full or gone: nobody waits for it, memory is bounded, what is lost is counted and told."""

import io
import logging
import os
import threading
import time

from interlock.observability import logging as ours
from interlock.observability.line_writer import LineWriter
from interlock.observability.logging import configure_logging, dropped_lines
from tests.waiting import until


def pipe() -> tuple[int, LineWriter]:
    """Return the reading end of a pipe that nobody reads yet, and a writer into it that holds 10,000 characters."""
    reading, writing = os.pipe()
    return reading, LineWriter(os.fdopen(writing, "w"), most=10_000)


def test_lines_come_in_order_and_whole() -> None:
    """From many threads, each thread's in its order."""
    stream = io.StringIO()
    writer = LineWriter(stream)

    def write(name: str) -> None:
        for number in range(200):
            writer.write(f"{name} {number}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert writer.flush(10)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 600
    for name in "abc":
        assert [each for each in lines if each.startswith(name)] == [f"{name} {number}" for number in range(200)]


async def test_a_full_pipe_stops_nobody() -> None:
    """Ten megabytes go at once where nobody reads; what had no room is counted, and told once somebody reads."""
    reading, writer = pipe()
    line = "x" * 99 + "\n"
    began = time.process_time()
    for _ in range(100_000):
        writer.write(line)
    assert time.process_time() - began < 30  # it would never end if it waited
    assert writer.dropped > 99_000
    assert sum(map(len, writer._lines)) <= 10_000
    with os.fdopen(reading) as source:
        told = 0
        while told < writer.dropped:  # perhaps in several parts, as there is room
            text = source.readline()
            assert text
            told += int(text.split()[0]) if "log lines were dropped" in text else 0
        assert told == writer.dropped
        writer.write("after\n")
        assert source.readline() == "after\n"
        assert writer.flush(10)
        writer.stream.close()


def test_a_stream_that_is_gone_breaks_nothing() -> None:
    """Lines to a closed stream are lost and counted."""
    stream = io.StringIO()
    writer = LineWriter(stream)
    stream.close()
    for _ in range(3):
        writer.write("lost\n")
        assert writer.flush(10)
    assert writer.dropped == 3


async def test_logging_does_not_wait_for_a_full_pipe() -> None:
    """The standard library's logging goes through the queue, and its loss is the metric's."""
    reading, writing = os.pipe()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        with os.fdopen(writing, "w") as stream:
            configure_logging("info", "json", stream, queued=True)
            text = "y" * 10_000
            for _ in range(1000):
                logging.getLogger("somebody").warning(text)
            assert dropped_lines() > 0
            with os.fdopen(reading) as source:
                assert '"level": "warning"' in source.readline()
                rest = threading.Thread(target=source.read)
                rest.start()
                queue = ours._queue
                assert queue is not None
                await until(lambda: queue.flush(5), 30)
                stream.close()
                rest.join(10)
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        configure_plain()


def configure_plain() -> None:
    """Leave no queue behind for other tests."""
    ours._queue = None
