"""The examples of a built guide, executed against a real service."""

import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from interlock import in_thread
from interlock.cli.guide import build as build_command
from interlock.cli.guide import verify as verify_command
from interlock.guide import Report, State, build, verify
from interlock.server import serving
from tests.guide.subjects import SAMPLE, SHOP, sample_subject
from tests.sample.handlers import Sample, make
from tests.server.processes import free_port
from tests.waiting import until


def states(reports: list[Report], language: str) -> dict[str, State]:
    """What became of the examples in one language, by heading."""
    return {each.heading: each.state for each in reports if each.language == language}


async def test_every_marked_example_runs_against_a_service() -> None:
    """Create, retrieve, paginate and errors work in Python, Node.js and curl; a thing made by Example 2 is read."""
    sample = Sample()
    text = build(sample_subject()).text
    async with serving(make(sample)) as address:
        variables = {"SAMPLE_ENDPOINT": address.url, "SAMPLE_TOKEN": ""}
        reports = await in_thread(lambda: verify(text, variables, path=[SAMPLE]))
    failed = [f"{each.heading} ({each.language}): {each.told}" for each in reports if each.state is State.FAILED]
    assert not failed, "\n".join(failed)
    for language in ("python", "bash"):
        found = states(reports, language)
        for heading in ("Example 1: Retrieve Data", "Example 2: Create Resource", "Example 3: Handle Pagination"):
            assert found[heading] is State.OK, (language, heading)
        assert found["Example 4: Error Handling"] is State.OK
    assert states(reports, "bash")["CloudWatch Metrics"] is State.NOT_EXECUTED
    assert states(reports, "hcl")["Step 2: Configure Service Settings"] is State.NOT_EXECUTED
    assert sample.things


def test_examples_fail_where_nobody_serves() -> None:
    """Against a port where nobody listens every example that calls fails, with what it printed."""
    text = build(sample_subject()).text
    text = text[text.index("\n## Code Examples\n") : text.index("\n### Example 2")]
    variables = {"SAMPLE_ENDPOINT": f"http://127.0.0.1:{free_port()}", "SAMPLE_TOKEN": "", "THING_ID": "x"}
    reports = verify(text, variables, path=[SAMPLE])
    for language in ("python", "bash"):
        found = states(reports, language)
        assert found["Example 1: Retrieve Data"] is State.FAILED
    assert all(each.told for each in reports if each.state is State.FAILED)


def block(language: str, *lines: str) -> str:
    """A fenced block."""
    return "\n".join((f"```{language}", *lines, "```", ""))


def test_the_first_prepares_the_others() -> None:
    """What is marked first runs first; what it exports is there for the others; reports keep the guide's order."""
    text = block("bash run", 'test "$WORD" = spoken') + "\n" + block("bash run first", "echo 'export WORD=spoken'")
    seen: list[str] = []
    reports = verify(f"# One\n{text}", {}, report=lambda each: seen.append(each.state.value))
    assert [each.state for each in reports] == [State.OK, State.OK]
    assert seen == ["ok", "ok"]


def test_a_block_goes_on_from_the_one_it_names() -> None:
    """`after` puts a named block before this one; a block by itself does not see it."""
    text = (
        block("python run name=start", "x = 1") + block("python run after=start", "assert x") + block("python run", "x")
    )
    assert [each.state for each in verify(text, {})] == [State.OK, State.OK, State.FAILED]


async def test_an_example_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """After its time an example fails, and what it started is gone too."""
    mark = tmp_path / "pid"
    text = block("bash run", f"sleep 60 & echo $! > {mark}", "wait")
    began = time.monotonic()
    [report] = await in_thread(lambda: verify(text, {}, longest=1))
    assert report.state is State.FAILED
    assert report.told == "it was not done after 1 s"
    assert time.monotonic() - began < 20
    await until(lambda: not alive(mark.read_text().strip()))


def alive(pid: str) -> bool:
    """Whether a process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_failure_shows_the_end_of_what_was_printed() -> None:
    """Exit code and last lines are told."""
    [report] = verify(block("bash run", "echo why", "exit 7"), {})
    assert report.told == "exit 7\nwhy"


def test_unmarked_blocks_are_not_run(tmp_path: Path) -> None:
    """A block is run only where the guide says so, and data are no steps at all."""
    text = block("bash", f"touch {tmp_path}/x") + block("json", "{}") + "# In a shell\n" + block("hcl", "# Not this")
    reports = verify(text, {})
    assert [each.state for each in reports] == [State.NOT_EXECUTED] * 2
    assert [each.heading for each in reports] == ["", "In a shell"]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def runner() -> tuple[CliRunner, typer.Typer]:
    app = typer.Typer()
    app.command("build")(build_command)
    app.command("verify")(verify_command)
    return CliRunner(), app


def test_build_writes_and_checks(runner: tuple[CliRunner, typer.Typer], tmp_path: Path) -> None:
    """`build` writes once, then all is up to date; `--check` notices a change."""
    run, app = runner
    guide = tmp_path / "GUIDE.md"
    command = ["build", str(SHOP), "--guide", str(guide)]
    assert run.invoke(app, [*command, "--check"]).exit_code == 1
    assert not guide.exists()
    written = run.invoke(app, [*command, "--strict"])
    assert written.exit_code == 0, written.output
    assert "up to date" in run.invoke(app, [*command, "--check"]).output
    guide.write_text(guide.read_text() + "more")
    assert run.invoke(app, [*command, "--check"]).exit_code == 1


def test_strict_wants_every_fact(runner: tuple[CliRunner, typer.Typer], tmp_path: Path) -> None:
    """Missing facts are listed; only with --strict they are a failure."""
    run, app = runner
    facts = tmp_path / "guide.toml"
    facts.write_text('[owner]\nteam = "us"\n')
    command = ["build", str(SHOP), "--guide", str(tmp_path / "GUIDE.md"), "--facts", str(facts)]
    lenient = run.invoke(app, command)
    assert lenient.exit_code == 0
    assert "owner.contact" in lenient.output
    assert "owner.team" not in lenient.output
    assert run.invoke(app, [*command, "--strict"]).exit_code == 1


def test_verify_wants_a_guide_and_something_to_run(runner: tuple[CliRunner, typer.Typer], tmp_path: Path) -> None:
    """No guide is wrong usage; a guide of which nothing was executed proves nothing."""
    run, app = runner
    command = ["verify", str(tmp_path), "--target", "http://127.0.0.1:1"]
    assert run.invoke(app, command).exit_code == 2
    (tmp_path / "GUIDE.md").write_text(block("bash", "true"))
    assert run.invoke(app, command).exit_code == 1
    (tmp_path / "GUIDE.md").write_text(block("bash run", 'test "$SERVICE_ENDPOINT" = http://127.0.0.1:1'))
    passed = run.invoke(app, command)
    assert passed.exit_code == 0, passed.output
    assert "1 ok, 0 failed, 0 not executed" in passed.output
