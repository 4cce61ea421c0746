"""`interlock events dead-letters …` on every broker that outlives its process, and `interlock show asyncapi`."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import nats
import pytest
import typer
from typer.testing import CliRunner, Result

from interlock.cli import events as commands
from interlock.cli.failures import exit_code
from interlock.events.broker import Broker, DeadLetter, open_broker
from interlock.stamps import uuid7
from tests.events import rabbitmq_server
from tests.events.broker_suite import TYPES, event, take
from tests.events.nats_server import own_server
from tests.sample.gen.sample.v1.sample_pb import EchoMade

SAMPLE = str(Path(__file__).parents[2] / "tests/sample/gen/contract.binpb")
GROUPS = ("api.orders", "api.payments")


def run(*arguments: str, stdin: str = "") -> Result:
    """Run a command as the table would."""
    app = typer.Typer(pretty_exceptions_enable=False)
    for name in ("list_", "show", "replay", "discard", "asyncapi"):
        app.command(name.rstrip("_"))(getattr(commands, name))
    return CliRunner().invoke(app, arguments, input=stdin)


@pytest.fixture(scope="module")
def nats_url() -> Iterator[str]:
    with own_server() as url:
        yield url


@pytest.fixture(params=["embedded", "nats", "rabbitmq"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker with letters e-0 to e-5, of two groups, under names of its own."""
    name = f"t{uuid7()}"
    match request.param:
        case "nats":
            found = f"{request.getfixturevalue('nats_url')}?stream={name}"
        case "rabbitmq":
            found = f"{rabbitmq_server.running_url()}?name={name}"
        case _:
            found = f"embedded:{tmp_path}/broker.db"
    asyncio.run(seed(found))
    yield found
    if request.param == "rabbitmq":
        asyncio.run(rabbitmq_server.remove(found.partition("?")[0], name, *GROUPS))
    if request.param == "nats":
        asyncio.run(forget(found.partition("?")[0], name))


async def forget(server: str, name: str) -> None:
    client = await nats.connect(server)
    for stream in await client.jetstream().streams_info():
        if (stream.config.name or "").startswith(name):
            await client.jetstream().delete_stream(stream.config.name or "")
    await client.close()


def letter(number: int) -> DeadLetter:
    old = timedelta(days=number)
    return DeadLetter(
        group=GROUPS[number % 2],
        envelope=event(f"k-{number}", id_=f"e-{number}", type_=TYPES[number % 2]),
        code="INTERNAL" if number < 4 else "INVALID_ARGUMENT",
        cause=f"RuntimeError: it broke {number}\nbadly",
        attempts=3,
        at=datetime.now(UTC) - old,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Broker]:
    broker = open_broker(url)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def seed(url: str) -> None:
    async with opened(url) as broker:
        for group in GROUPS:
            await (await broker.subscribe(group, TYPES)).close()
        for number in range(6):
            await broker.bury(letter(number))


def listed(url: str, *filters: str) -> list[str]:
    result = run("list", "--broker", url, "--json", *filters)
    assert result.exit_code == 0, result.output
    return [each["id"] for each in json.loads(result.stdout)]


def test_letters_are_listed_by_every_filter(url: str) -> None:
    """Group, type, key, code, reason and age choose; the table has a line each."""
    everything = sorted(letter(number).id for number in range(6))
    assert listed(url) == everything
    assert listed(url, "--group", "api.orders") == [f"api.orders/e-{number}" for number in (0, 2, 4)]
    assert listed(url, "--type", TYPES[1]) == [f"api.payments/e-{number}" for number in (1, 3, 5)]
    assert listed(url, "--key", "k-3") == ["api.payments/e-3"]
    assert listed(url, "--code", "invalid_argument") == ["api.orders/e-4", "api.payments/e-5"]
    assert listed(url, "--reason", "BROKE 2") == ["api.orders/e-2"]
    assert listed(url, "--older-than", "84h") == ["api.orders/e-4", "api.payments/e-5"]
    assert listed(url, "--newer-than", "12h") == ["api.orders/e-0"]
    assert listed(url, "--limit", "2") == everything[:2]
    lines = run("list", "--broker", url).stdout.splitlines()
    assert len(lines) == 7
    assert lines[1].split()[:3] == ["api.orders/e-0", TYPES[0], "k-0"]


def test_one_letter_is_shown(url: str) -> None:
    """Attributes, cause and trace are printed; an id that is none is told."""
    shown = run("show", "api.orders/e-2", "--broker", url)
    assert shown.exit_code == 0
    for text in ("RuntimeError: it broke 2", "partitionkey    k-2", "00-0af7651916cd43dd8448eb211c80319c"):
        assert text in shown.stdout
    assert json.loads(run("show", "api.orders/e-2", "--broker", url, "--json").stdout)["data_base64"]
    missing = run("show", "api.orders/none", "--broker", url)
    assert missing.exception is not None
    assert exit_code(missing.exception) == 1  # type: ignore[arg-type]  # an Exception, or pytest's own


def test_replayed_letters_reach_their_group_alone(url: str) -> None:
    """A dry run does nothing; a replay sends the event to its group with a new attempt id, and removes the letter."""
    dry = run("replay", "--broker", url, "--group", "api.orders", "--dry-run")
    assert "3 would be replayed" in dry.stderr
    assert len(listed(url)) == 6
    one = run("replay", "--broker", url, "api.orders/e-2", "--json")
    assert json.loads(one.stdout) == {"dry_run": False, "replayed": ["api.orders/e-2"], "failed": []}
    rest = run("replay", "--broker", url, "--group", "api.orders")
    assert rest.stdout.split() == ["api.orders/e-0", "api.orders/e-4"]
    assert listed(url) == [f"api.payments/e-{number}" for number in (1, 3, 5)]

    async def consumed() -> list[tuple[str, str]]:
        async with opened(url) as broker:
            member = await broker.subscribe("api.orders", TYPES)
            deliveries = await take(member, 3, limit=30.0)
            for each in deliveries:
                await each.ack()
            await member.close()
            assert await broker.lag("api.payments", TYPES) == 0
            return sorted((each.envelope.id, each.envelope.attempt_id) for each in deliveries)

    assert asyncio.run(consumed()) == [(f"e-{number}", f"e-{number}/1") for number in (0, 2, 4)]


def test_discarding_several_wants_a_yes(url: str) -> None:
    """One letter goes at once, several only with --yes; without any choice nothing is done."""
    assert run("discard", "--broker", url).exit_code == 2
    assert run("discard", "--broker", url, "--all").exit_code == 2
    assert len(listed(url)) == 6
    assert run("discard", "--broker", url, "api.orders/e-0").exit_code == 0
    assert "2 would be discarded" in run("discard", "--broker", url, "--group", "api.orders", "--dry-run").stderr
    gone = run("discard", "--broker", url, "--group", "api.orders", "--yes", "--json")
    assert json.loads(gone.stdout)["discarded"] == ["api.orders/e-2", "api.orders/e-4"]
    assert listed(url) == [f"api.payments/e-{number}" for number in (1, 3, 5)]


def test_the_data_is_decoded_where_a_contract_knows_it(tmp_path: Path) -> None:
    """With the contract, the event's message is shown as JSON."""
    url = f"embedded:{tmp_path}/broker.db"
    data = EchoMade(text="hello").to_binary()

    async def bury() -> None:
        async with opened(url) as broker:
            await broker.bury(replace(letter(0), envelope=replace(letter(0).envelope, type="echo.made", data=data)))

    asyncio.run(bury())
    shown = run("show", "api.orders/e-0", "--broker", url, "--contract", SAMPLE, "--json")
    assert json.loads(shown.stdout)["data"] == {"text": "hello"}


def test_wrong_doors_are_told(tmp_path: Path) -> None:
    """A file that is not there is not made; no broker of that kind, none that answers: a line, and no traceback."""
    for given, text in (
        (f"embedded:{tmp_path}/none.db", "there is no file"),
        ("memory:", "lives in its service's process"),
        ("kafka://localhost", "no broker for"),
    ):
        told = run("list", "--broker", given)
        assert told.exit_code == 2
        assert text in told.stderr
    assert not (tmp_path / "none.db").exists()
    away = subprocess.run(
        [sys.executable, "-m", "interlock.cli", "events", "dead-letters", "list", "--broker", "amqp://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert away.returncode == 1
    assert away.stderr.startswith("RabbitMQ at amqp://127.0.0.1:1 can't be used")


def test_the_document_of_a_contract_is_printed() -> None:
    """`interlock show asyncapi` prints what a service answers."""
    shown = run("asyncapi", SAMPLE)
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["channels"].keys() == {"echo.made"}
