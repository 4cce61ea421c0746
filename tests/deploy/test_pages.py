"""The commands on the operators' pages do what the pages say: each is run against the shop's order service."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from interlock.security.keys import new_keys
from tests.server.processes import free_port, serving_process

ROOT = Path(__file__).resolve().parents[2]
SHOP = ROOT / "examples" / "shop"
PAGES = ("monitoring", "runbook", "tracing", "deploy")
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ELSEWHERE = ("docker", "kubectl")
"""Programs that reach a registry or a cluster, which a test has not."""
SERVES = re.compile(r"\binterlock serve\b")
MAY_FAIL = re.compile(r"\binterlock (doctor|deploy \w+ --check)\b")
"""Commands whose exit code is their answer."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a page, and the output that the page shows for it."""

    page: str
    text: str
    shown: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def commands() -> Iterator[Command]:
    """Yield the commands of the pages."""
    for page in PAGES:
        for block in BLOCK.findall((ROOT / "docs" / f"{page}.md").read_text()):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                first, *shown = part.rstrip("\n").splitlines()
                yield Command(page, re.sub(r"\s+#.*", "", first), tuple(filter(None, shown)))


RUN = [each for each in commands() if not each.text.startswith(ELSEWHERE)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where commands are run: a copy of the shop beside a service at work."""

    directory: Path
    port: int
    operations_port: int

    def run(self, command: Command) -> subprocess.CompletedProcess[str]:
        """Run a command as somebody types it, with the ports that are used here."""
        text = command.text.replace("localhost:8081", f"localhost:{self.operations_port}")
        text = text.replace("localhost:8080", f"localhost:{self.port}")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(self.directory))),
            "INTERLOCK_PORT": str(free_port()),
            "INTERLOCK_OPERATIONS_PORT": str(free_port()),
            **neighbours(),
        }
        return subprocess.run(
            ["timeout", "--signal=TERM", "60", "bash", "-c", text],
            cwd=self.directory, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip


def neighbours() -> dict[str, str]:
    """Return variables that say where neighbours would be."""
    return {f"INTERLOCK_UPSTREAMS__{name}": "127.0.0.1:9" for name in ("CUSTOMERS", "INVENTORY", "PAYMENTS", "ORDERS")}


def project(parent: Path) -> Path:
    """Copy the shop, as a project of somebody's own, and make its keys."""
    directory = parent / "shop"
    shutil.copytree(SHOP, directory, ignore=shutil.ignore_patterns("var"))
    new_keys(directory / "var" / "keys")
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """The order service, served beside its contract and deploy.toml."""
    directory = project(tmp_path_factory.mktemp("pages"))
    variables = {name.removeprefix("INTERLOCK_"): value for name, value in neighbours().items()}
    with serving_process(directory, "shop.orders:make", workers="2", log_format="json", **variables) as process:
        await process.ready()
        yield Place(directory, process.port, process.operations_port)


def missing(text: str) -> str:
    """Return the program of a command that is not installed here, empty if all are."""
    programs = {part.split()[0] for part in re.split(r"&&|\|", text) if "=" not in part.split()[0]}
    return next((each for each in programs if each != "interlock" and shutil.which(each) is None), "")


@pytest.mark.parametrize("command", [each for each in RUN if not SERVES.search(each.text)], ids=str)
def test_a_command_of_a_page_works(place: Place, command: Command) -> None:
    """It ends well, and says what the page shows: the same parts of a diagnosis, the same first words elsewhere."""
    if program := missing(command.text):
        pytest.skip(f"NOT TESTED: {program} is not installed ({command.text})")
    done = place.run(command)
    output = done.stdout + done.stderr
    assert done.returncode == 0 or (MAY_FAIL.search(command.text) and done.returncode == 1), output
    assert "Traceback" not in output
    if "/admin/log-level" in command.text:
        assert '"level": "debug"' in output
    if "interlock doctor" in command.text:
        marked = re.compile(r"^[✓!✗] \S+", re.MULTILINE)
        assert marked.search(output), output
        assert re.search(r"^(\d+|no) faults?, (\d+|no) notes?$", output, re.MULTILINE)


@pytest.mark.parametrize("command", [each for each in RUN if SERVES.search(each.text)], ids=str)
async def test_a_service_starts_as_a_page_says(tmp_path: Path, command: Command) -> None:
    """With the variables that stand before the command; the collector need not be there."""
    given, _, rest = command.text.partition(" interlock serve ")
    variables = dict(each.removeprefix("INTERLOCK_").split("=", 1) for each in given.split())
    own = {name.removeprefix("INTERLOCK_"): value for name, value in neighbours().items()}
    with serving_process(project(tmp_path), rest.split()[0], **variables, **own) as process:
        await process.ready()
        assert await process.probe("/readyz") == 200


def test_the_pages_have_commands() -> None:
    """Nothing is left out by a mistake of the reading; those that are not run need a cluster or a registry."""
    assert len(RUN) > 15
    assert {each.page for each in RUN} == set(PAGES)
    left = [each.text for each in commands() if each.text.startswith(ELSEWHERE)]
    assert all(each.startswith(("kubectl port-forward", "docker run")) for each in left), left


def test_what_doctor_prints_is_what_pages_show() -> None:
    """Marks, parts and remedies have the form that the command gives them."""
    shown = [each for each in commands() if "interlock doctor" in each.text and each.shown]
    assert len(shown) == 2
    for each in shown:
        for line in each.shown[:-1]:
            assert re.match(r"([✓!✗] [\w ]{20} \S)|( {23}→ \S)", line), line
        assert re.match(r"(\d+|no) faults?, (\d+|no) notes?$", each.shown[-1])
