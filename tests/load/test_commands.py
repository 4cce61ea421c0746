"""`interlock bench` and `interlock call`, as somebody types them, against a served app."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from interlock import Call, NotFound
from interlock.cli.bench import bench
from interlock.cli.call import call, describe
from interlock.security.keys import new_keys
from interlock.server import Address, serving
from interlock.testing import Certificates
from tests.sample.gen.sample.v1.sample_pb import SlowRequest, SlowResponse
from tests.sample.handlers import Sample, make

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "tests/sample/gen/contract.binpb"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100"}
RUN = "import typer, sys; from interlock.cli.{0} import {0}; typer.run({0})"


class Heard(Sample):
    """Handlers that note with what metadata they were called."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str | None, str | None]] = []

    async def slow(self, request: SlowRequest, call: Call) -> SlowResponse:
        self.heard.append((call.metadata.get("authorization"), call.metadata.get("x-test-who")))
        return await super().slow(request, call)


@pytest.fixture
def sample() -> Heard:
    return Heard()


@pytest.fixture
async def address(sample: Heard) -> AsyncIterator[Address]:
    async with serving(make(sample)) as served:
        yield served


async def run(command: str, *arguments: object, given: str = "") -> tuple[int, str, str]:
    """Run a command in a process of its own; return its exit code, output and messages."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", RUN.format(command), *map(str, arguments)),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            output, messages = await process.communicate(given.encode())
    except BaseException:
        process.kill()
        raise
    assert b"Traceback" not in messages, messages.decode()
    return process.returncode or 0, output.decode(), messages.decode()


def run_here(command: Callable[..., None], *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process, for what needs no server."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


# --- call -----------------------------------------------------------------------------------------------------------


async def test_a_reply_is_printed_as_json_with_the_names_of_the_contract(address: Address) -> None:
    """Found by reflection, indented, text as it is; the request may come from the input."""
    code, output, _ = await run("call", address, "Echo", "-", given='{"text": "hé", "place": {"street": "s"}}')
    assert code == 0
    assert '"text": "hé"' in output
    assert json.loads(output)["place"] == {"street": "s", "city": ""}


async def test_a_stream_is_a_line_of_json_each(address: Address) -> None:
    """An error behind them is told, and what came stays."""
    code, output, messages = await run("call", address, "CountUp", '{"count": 5, "fail_after": 2}')
    assert code == 64 + 5
    assert [json.loads(line) for line in output.splitlines()] == [{"number": 1}, {"number": 2}]
    assert messages.splitlines()[0] == "NOT_FOUND: nothing after 2"


async def test_an_error_is_told_with_all_it_says(address: Address) -> None:
    """Code, message, reason, fields, when to come again: the exit code says which, and nothing is on the output."""
    request = {
        "code": 8,
        "message": "too many",
        "reason": "OUT_OF_STOCK",
        "retry_after": "2s",
        "violations": [{"field": "items[0].sku", "description": "is gone"}],
    }
    code, output, messages = await run("call", address, "Fail", json.dumps(request), "--contract", IMAGE)
    assert (code, output) == (64 + 8, "")
    assert messages.splitlines() == [
        "RESOURCE_EXHAUSTED: too many",
        "reason: OUT_OF_STOCK (sample.v1.SampleService)",
        "  items[0].sku: is gone",
        "retry after 2 s",
    ]


def test_a_terminal_obeys_nothing_that_a_service_says() -> None:
    """Control characters are shown as text; lines stay lines."""
    told = describe(NotFound("no\x1b[2J\nsuch \x07thing", reason="GONE"))
    assert told == "NOT_FOUND: no\\x1b[2J\nsuch \\x07thing\nreason: GONE"


async def test_options_reach_the_call(address: Address, sample: Heard, tmp_path: Path) -> None:
    """The timeout ends it; a token from a file and metadata travel, and are shown to nobody."""
    (tmp_path / "token").write_text("s3cret-token\n")
    token = ("--token", f"@{tmp_path}/token", "--metadata", "x-test-who=me")
    code, output, messages = await run("call", address, "Slow", '{"seconds": 30}', "--timeout", "200ms", *token)
    assert (code, output) == (64 + 4, "")
    assert messages.startswith("DEADLINE_EXCEEDED")
    assert "s3cret" not in messages
    assert sample.heard == [("Bearer s3cret-token", "me")]


async def test_a_url_is_called_over_connect(address: Address, sample: Heard) -> None:
    """The contract comes by reflection from the same port; streams and errors are told as over gRPC."""
    code, output, messages = await run("call", address.url, "Echo", '{"text": "hé"}', "--timing")
    assert (code, json.loads(output)["text"]) == (0, "hé")
    steps = [each.rsplit(" ", 2)[0] for each in messages.strip().split("  ")]
    assert steps == ["contract", "TCP connect", "request", "first byte", "body", "first reply", "end"]
    code, output, messages = await run("call", address.url, "CountUp", '{"count": 5, "fail_after": 2}')
    assert (code, len(output.splitlines())) == (64 + 5, 2)
    assert messages.startswith("NOT_FOUND: nothing after 2")


async def test_scripts_get_one_document(address: Address) -> None:
    """With --json the outcome is JSON, whatever it is: reply or replies, error, metadata, times."""
    code, output, messages = await run(
        "call", address, "CountUp", '{"count": 5, "fail_after": 2}', "--json", "--timing"
    )
    document = json.loads(output)
    assert (code, messages) == (64 + 5, "")
    assert (document["code"], document["replies"]) == ("NOT_FOUND", [{"number": 1}, {"number": 2}])
    assert document["error"]["message"] == "nothing after 2"
    assert document["headers"]["x-test-counting"] == ["up"]
    assert document["milliseconds"].keys() == {"contract", "connect", "first reply", "end"}
    code, output, _ = await run("call", address.url, "Echo", '{"text": "x"}', "--json", "--contract", IMAGE)
    assert (code, json.loads(output)["reply"]["text"]) == (0, "x")


async def test_the_environment_may_hold_the_token(
    address: Address, sample: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without --token it is INTERLOCK_TOKEN, or one minted for INTERLOCK_SERVICE_NAME; missing keys are told."""
    arguments = ("call", address, "Slow", '{"seconds": 0}', "--contract", IMAGE)
    monkeypatch.setitem(ENVIRONMENT, "INTERLOCK_TOKEN", "from-outside")
    assert (await run(*arguments))[0] == 0
    assert sample.heard == [("Bearer from-outside", None)]
    monkeypatch.delitem(ENVIRONMENT, "INTERLOCK_TOKEN")
    monkeypatch.setitem(ENVIRONMENT, "INTERLOCK_SERVICE_NAME", "billing")
    monkeypatch.setitem(ENVIRONMENT, "INTERLOCK_KEYS", str(tmp_path / "keys"))
    code, _, messages = await run(*arguments)
    assert code == 2
    assert "no token could be had from the environment" in messages
    new_keys(tmp_path / "keys")
    assert (await run(*arguments))[0] == 0
    assert (sample.heard[-1][0] or "").startswith("Bearer ey")


@pytest.mark.parametrize(
    "arguments,told",
    [
        (("127.0.0.1:1", "Echo", "--authorities", "ca.pem"), "has no TLS"),
        (("127.0.0.1", "Echo"), "lacks a port"),
        (("127.0.0.1:1", "Echo"), "127.0.0.1:1 does not tell its contract"),
        (("127.0.0.1:1", "Ecoh", "--contract", IMAGE), "did you mean 'Echo'"),
        (("127.0.0.1:1", "Echo", "{", "--contract", IMAGE), "no sample.v1.EchoRequest"),
        (("127.0.0.1:1", "Echo", "--contract", ROOT / "README.md"), "no image of a contract"),
        (("127.0.0.1:1", "Echo", "--timeout", "soon", "--contract", IMAGE), "no duration"),
        (("127.0.0.1:1", "Echo", "--metadata", "x-a", "--contract", IMAGE), "NAME=VALUE"),
        (("127.0.0.1:1", "Echo", "--metadata", "grpc-x=1", "--contract", IMAGE), "can't be a metadata name"),
        (("127.0.0.1:1", "Echo", "--token", "@/nowhere/token", "--contract", IMAGE), "token's file"),
    ],
    ids=str,
)
def test_what_can_t_be_called_is_exit_2(arguments: tuple[object, ...], told: str) -> None:
    """A line on what is wrong, no traceback."""
    code, output, messages = run_here(call, *arguments)
    assert (code, output) == (2, "")
    assert told in messages


# --- bench ----------------------------------------------------------------------------------------------------------


async def test_a_report_for_scripts_and_progress_beside_it(address: Address) -> None:
    """JSON on the output, exit 0 where what was tested is met; the example of the contract is what is sent."""
    code, output, messages = await run("bench", address, "--rate", 20, "--seconds", 1.5, "--json-report")
    report = json.loads(output)
    judged = {each["name"]: each["state"] for each in report["objectives"]}
    assert (report["operation"], report["arrivals"], report["errors"]) == ("/sample.v1.SampleService/Echo", 30, {})
    assert report["success_ratio"] == 1
    assert report["latency"]["p50"] <= report["latency"]["p95"] <= report["latency"]["max"]
    assert judged["success_ratio"] == "met"
    assert judged["requests_per_second"] in ("untested", "missed")  # a busy machine may not bear even this
    assert report["verdict"] == ("missed" if "missed" in judged.values() else "met")
    assert code == (1 if "missed" in judged.values() else 0)
    assert "of 30 sent" in messages


async def test_processes_share_the_load(address: Address) -> None:
    """Together they send the plan; a failure of theirs to begin is told once, as in one."""
    what = ("--rate", 20, "--seconds", 2, "--processes", 2, "--json-report")
    code, output, messages = await run("bench", address, *what)
    report = json.loads(output)
    assert (report["asked"]["requests_per_second"], report["arrivals"], report["succeeded"]) == (20, 40, 40)
    assert "of 20 sent" in messages
    assert code in (0, 1)
    code, output, messages = await run("bench", "127.0.0.1:1", "--rate", 9, "--seconds", 1, "--processes", 2)
    assert (code, output) == (2, "")
    assert "does not tell its contract" in messages


async def test_a_table_for_people_and_exit_1_where_an_objective_is_missed(address: Address) -> None:
    """Failures are counted by their code."""
    what = ("--method", "Fail", "--json", '{"code": 14}', "--contract", ROOT / "tests/sample")
    code, output, _ = await run("bench", address, "--rate", 20, "--seconds", 0.5, *what)
    assert code == 1
    assert "failed: UNAVAILABLE" in output
    assert "0.00% of 10" in output
    assert output.splitlines()[-1] == "objectives missed"


@pytest.mark.parametrize(
    "arguments,told",
    [
        (("10.0.0.1:80", "--rate", 1, "--seconds", 1), "--i-own-this-host"),
        (("127.0.0.1:1", "--rate", 1, "--seconds", 9999), "at most 3,600"),
        (("127.0.0.1:1", "--rate", 0, "--seconds", 1), "above 0"),
        (("127.0.0.1:1", "--rate", 1, "--seconds", 1), "does not tell its contract"),
        (("127.0.0.1:1", "--rate", 1, "--seconds", 1, "--method", "Sum", "--contract", IMAGE), "stream of requests"),
        (("127.0.0.1:1", "--seconds", 1), "--rate"),
    ],
    ids=str,
)
def test_what_can_t_be_measured_is_exit_2(arguments: tuple[object, ...], told: str) -> None:
    """Nothing was sent, and the text says why."""
    code, output, messages = run_here(bench, *arguments)
    assert (code, output) == (2, "")
    assert told in messages


async def test_times_tell_connecting_and_tls_apart(certificates: Certificates) -> None:
    """A name is looked up and TLS greeted over HTTP; gRPC tells connecting as one."""
    async with serving(make(), tls=certificates.server()) as secured:
        options = ("--contract", IMAGE, "--authorities", certificates.authorities, "--timing", "--json")
        wanted = {
            f"https://localhost:{secured.port}": ["name lookup", "TCP connect", "TLS", "request", "first byte", "body"],
            f"grpcs://localhost:{secured.port}": ["name lookup", "connect"],
        }
        for target, between in wanted.items():
            code, output, messages = await run("call", target, "Echo", '{"text": "x"}', *options)
            assert code == 0, messages
            times = json.loads(output)["milliseconds"]
            assert list(times) == ["contract", *between, "first reply", "end"]
            assert times[between[1]] > 0


async def test_times_are_told_also_where_nobody_answers() -> None:
    """What took so long is what one wants to know then."""
    code, output, _ = await run("call", "127.0.0.1:1", "Echo", "{}", "--contract", IMAGE, "--timing", "--json")
    document = json.loads(output)
    assert (code, document["code"]) == (64 + 14, "UNAVAILABLE")
    assert list(document["milliseconds"]) == ["contract", "connect", "end"]
