"""Metrics of several workers in one scrape, whatever becomes of the workers."""

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import interlock
from interlock.call import Call
from interlock.observability.families import Family, decode, encode, merged
from interlock.observability.metrics import Metrics
from interlock.observability.snapshots import DIRECTORY, SLOT, Snapshots, shared
from tests.observability.test_metrics import OPERATION, shown

ROOT = Path(__file__).parents[2]
SOURCE = Path(interlock.__file__).parents[1]


@contextmanager
def worker(directory: Path, slot: int, count: int) -> Iterator[subprocess.Popen[str]]:
    """Run a worker that has counted so many calls, ready to be ended any way."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.observability.counting", str(directory), str(slot), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(ROOT)))},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


class Worker(Metrics):
    """A worker of this process: the lock that tells whether it lives knows no difference."""

    def __init__(self, directory: Path, calls: int = 0, *, service: str = "orders", gauge: float = 1.0) -> None:
        super().__init__(service, shared=Snapshots(directory, service), interval=60)
        self.gauge("service_requests_in_flight", "Calls that run now.", lambda: gauge)
        self.gauge("breaker_open", "Worst of all.", lambda: gauge, merge="max")
        self.count(calls)

    def count(self, calls: int) -> None:
        """Count calls."""
        record = self.served(OPERATION)
        for _ in range(calls):
            call = Call(OPERATION, protocol="grpc")
            call.on_end(record)
            call.end()

    @property
    def total(self) -> float:
        """The requests of all workers, as a scrape of this one has them."""
        return sum(shown(self).get("service_requests_total", {}).values())

    def value(self, gauge: str) -> float:
        """A gauge over all workers."""
        return shown(self)[gauge][()]


def files(directory: Path) -> set[str]:
    """Return the names of what is in a directory."""
    return {path.name for path in directory.iterdir()}


async def ended(metrics: Worker) -> None:
    """End a worker as a kill -9 does: no last snapshot, and the system releases its lock."""
    assert metrics._shared is not None
    metrics._shared.close()
    assert metrics._writing is not None
    metrics._writing.cancel()
    with suppress(asyncio.CancelledError):
        await metrics._writing
    metrics._writing = None


async def test_two_processes_are_merged_through_kill_and_restart(tmp_path: Path) -> None:
    """A worker killed with -9 and its successor count on; its gauges are gone; a stop leaves all it counted."""
    here = Worker(tmp_path, 5)
    await here.start()
    with ExitStack() as running:
        first = running.enter_context(worker(tmp_path, 1, 10))
        assert here.total == 15
        assert here.value("service_requests_in_flight") == 8
        first.kill()
        first.wait()
        assert here.total == 15
        assert here.value("service_requests_in_flight") == 1
        second = running.enter_context(worker(tmp_path, 1, 100))
        assert here.total == 115
        assert here.value("service_requests_in_flight") == 8
        assert second.stdin is not None
        second.stdin.close()
        assert second.wait(20) == 0
        assert here.total == 115
        assert here.value("service_requests_in_flight") == 1
        running.enter_context(worker(tmp_path, 1, 1000))
        assert here.total == 1115
        found = shown(here)
        assert sum(found["service_request_duration_seconds_count"].values()) == 1115
        assert list(found["service_build_info"].values()) == [1.0]
    await here.stop()
    assert len(list((tmp_path / "orders").glob("*.json"))) <= 3  # the base, here, the last one: the others are folded


async def test_every_worker_shows_the_same_totals(tmp_path: Path) -> None:
    """Whichever worker a scrape reaches, it tells of all as they last wrote, and of itself as it is now."""
    workers = [Worker(tmp_path, calls, gauge=calls) for calls in (1, 20, 300)]
    for each in workers:
        await each.start()
    assert [each.total for each in workers] == [321, 321, 321]
    assert [each.value("breaker_open") for each in workers] == [300, 300, 300]
    assert [each.value("service_requests_in_flight") for each in workers] == [321, 321, 321]
    workers[0].count(4000)
    assert workers[0].total == 4321
    assert workers[1].total == 321
    await workers[0].stop()
    assert workers[1].total == 4321
    for each in workers[1:]:
        await each.stop()


async def test_services_that_share_a_directory_are_kept_apart(tmp_path: Path) -> None:
    """A platform in one directory does not add up its services."""
    orders, payments = Worker(tmp_path, 1), Worker(tmp_path, 2, service="pay/../ments")
    await orders.start()
    await payments.start()
    assert (orders.total, payments.total) == (1, 2)
    await orders.stop()
    await payments.stop()
    assert files(tmp_path) == {"orders", "pay%2F..%2Fments"}


@pytest.mark.parametrize(
    "junk",
    [b"", b"{", b"[1]", b"[[]]", b"null", b'{"a": 1}', b'[["x","","counter","sum",[["x",[],"y"]]]]', b"\xff\x00"],
)
async def test_what_is_no_snapshot_is_told_and_left_out(
    tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that somebody else left breaks no scrape, and no worker's start."""
    here = Worker(tmp_path, 3)
    await here.start()
    (tmp_path / "orders" / "9-junk.json").write_bytes(junk)
    assert here.total == 3
    assert "9-junk.json" in caplog.text
    after = Worker(tmp_path, 4)
    await after.start()
    assert after.total == 7
    await here.stop()
    await after.stop()


async def test_a_fold_that_was_cut_off_counts_nothing_twice(tmp_path: Path) -> None:
    """A worker killed after it wrote the base and before it removed what is in it does no harm."""
    gone = Worker(tmp_path, 10)
    await gone.start()
    await ended(gone)
    snapshot = next((tmp_path / "orders").glob("0-*.json"))
    kept = snapshot.read_bytes()
    here = Worker(tmp_path, 1)
    await here.start()
    assert not snapshot.exists()
    assert json.loads((tmp_path / "orders" / "base.json").read_bytes())["folded"] == [snapshot.stem]
    snapshot.write_bytes(kept)
    assert here.total == 11
    after = Worker(tmp_path, 100)
    await after.start()
    assert after.total == here.total == 111
    assert not snapshot.exists()
    await here.stop()
    await after.stop()


async def test_totals_never_go_backwards(tmp_path: Path) -> None:
    """While workers are killed and replaced, no scrape shows less than the one before, nor too much."""
    here = Worker(tmp_path, 0)
    await here.start()
    shared_files = here._shared
    assert shared_files is not None
    seen: list[float] = []
    over = threading.Event()

    def scrape() -> None:
        while not over.is_set():
            found = {each.name: each.samples for each in shared_files.others()}
            seen.append(sum(found.get("service_requests", {}).values()))

    scraping = threading.Thread(target=scrape)
    scraping.start()
    try:
        for _ in range(60):
            successor = Worker(tmp_path, random.randint(1, 5))
            await successor.start()
            await ended(successor)
    finally:
        over.set()
        scraping.join()
    assert len(seen) > 20
    assert seen == sorted(seen)
    assert seen[-1] <= here.total <= 300
    await here.stop()


async def test_dead_workers_leave_few_files(tmp_path: Path) -> None:
    """After many restarts the directory is as small as after one."""
    for _ in range(30):
        each = Worker(tmp_path, 1)
        await each.start()
        await ended(each)
    last = Worker(tmp_path, 1)
    await last.start()
    assert last.total == 31
    assert len(list((tmp_path / "orders").iterdir())) <= 5
    await last.stop()


async def test_a_directory_that_is_gone_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A parent that has ended and cleaned up leaves its workers to end in peace."""
    import shutil

    here = Metrics("orders", shared=Snapshots(tmp_path / "run", "orders"), interval=0.01)
    await here.start()
    shutil.rmtree(tmp_path / "run")
    await asyncio.sleep(0.05)
    assert shown(here)["service_build_info"]
    await here.stop()
    assert "can't be shared" in caplog.text


def test_the_parent_tells_where_by_environment(tmp_path: Path) -> None:
    """Without a directory from the parent a process shares with nobody."""
    assert shared("orders", {}) is None
    found = shared("orders", {DIRECTORY: str(tmp_path), SLOT: "3"})
    assert found is not None
    found.open()
    assert [path.name.partition("-")[0] for path in (tmp_path / "orders").glob("*-*.lock")] == ["3"]
    found.close()


def test_families_survive_json() -> None:
    """What was encoded is decoded to the same, infinities and odd labels included."""
    key: Any = ("x_bucket", (("le", "+Inf"), ("path", 'a"\\\n世')))
    before = [Family(name="x", documentation="d", type="histogram", merge="sum", samples={key: float("inf")})]
    assert decode(json.loads(json.dumps(encode(before)))) == before


def test_families_of_one_name_and_two_types_are_not_added() -> None:
    """A counter is no gauge, though a user gave both one name in two versions of his code."""
    one = Family(name="x", documentation="", type="counter", merge="sum", samples={("x", ()): 1.0})
    other = Family(name="x", documentation="", type="gauge", merge="sum", samples={("x", ()): 2.0})
    assert merged([[one], [other]])[0].samples == {("x", ()): 1.0}
