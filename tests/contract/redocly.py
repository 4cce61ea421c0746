"""`redocly lint`, installed below .cache when it is first needed."""

import asyncio
import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "@redocly/cli@2"
CONFIG = Path(__file__).with_name("redocly.yaml")


class NoRedocly(Exception):
    """It cannot be run here; the message says why."""


async def lint(document: Path) -> str:
    """Return what redocly's recommended rules find wrong with a document, warnings too; empty for nothing."""
    program = await _installed()
    arguments = ("lint", "--config", str(CONFIG), "--format=json", "--max-problems=20", str(document))
    _, said = await _run(str(program), *arguments)
    start = said.find("{")  # a notice about the age of Node.js may stand before it
    if start < 0:
        raise NoRedocly(f"it does not run: {said[-300:]}")
    found = json.JSONDecoder().raw_decode(said, start)[0]
    totals = found["totals"]
    return json.dumps(found["problems"], indent=1) if totals["errors"] or totals["warnings"] else ""


async def _installed() -> Path:
    home = ROOT / ".cache" / "redocly"
    program = home / "node_modules" / ".bin" / "redocly"
    if program.exists():
        return program
    if shutil.which("npm") is None:
        raise NoRedocly("no npm here; on Debian: apt-get install npm")
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text('{"private": true}')
    code, said = await _run("npm", "install", "--prefix", str(home), "--no-audit", "--no-fund", "--no-save", PACKAGE)
    if code != 0:
        raise NoRedocly(f"npm install {PACKAGE} failed: {said[-300:]}")
    return program


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace")
