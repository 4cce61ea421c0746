"""`redocly lint`, installed below .cache when it is first needed."""

import asyncio
import json
from pathlib import Path

from tests.npm import NotInstalled, installed

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "@redocly/cli@2"
CONFIG = Path(__file__).with_name("redocly.yaml")


async def lint(document: Path) -> str:
    """Return what redocly's recommended rules find wrong with a document, warnings too; empty for nothing.

    NotInstalled where it cannot be run here.
    """
    home = await asyncio.to_thread(installed, "redocly", PACKAGE)
    program = home / "node_modules" / ".bin" / "redocly"
    arguments = ("lint", "--config", str(CONFIG), "--format=json", "--max-problems=20", str(document))
    _, said = await _run(str(program), *arguments)
    start = said.find("{")  # a notice about the age of Node.js may stand before it
    if start < 0:
        raise NotInstalled(f"it does not run: {said[-300:]}")
    found = json.JSONDecoder().raw_decode(said, start)[0]
    totals = found["totals"]
    return json.dumps(found["problems"], indent=1) if totals["errors"] or totals["warnings"] else ""


async def _run(*command: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode(errors="replace")
