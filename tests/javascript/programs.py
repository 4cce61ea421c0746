"""The JavaScript of this directory, installed and bundled below .cache when it is first needed."""

import asyncio
import hashlib
import shutil
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "javascript"
DONE = "installed"
"""The file that says of which package.json the packages are."""


class NoJavaScript(Exception):
    """It cannot be run here; the message says why, and what to do."""


async def installed() -> Path:
    """Return a directory with the sources and the packages that they name; NoJavaScript without Node.js or network."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NoJavaScript(f"no {program} here; on Debian: apt-get install nodejs npm")
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256((HERE / "package.json").read_bytes()).hexdigest()
    done = CACHE / DONE
    for source in (*HERE.glob("*.mjs"), HERE / "package.json"):
        shutil.copyfile(source, CACHE / source.name)
    if not done.exists() or done.read_text() != wanted:
        code, said = await ran("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", limit=90)
        if code != 0:
            raise NoJavaScript(f"npm install failed, it needs the network the first time: {said[-500:]}")
        done.write_text(wanted)
    return CACHE


async def bundled() -> bytes:
    """Return the scenarios for a browser as one script."""
    directory = await installed()
    program = directory / "node_modules" / ".bin" / "esbuild"
    target = directory / "browser.js"
    code, said = await ran(str(program), "browser.mjs", "--bundle", "--format=iife", f"--outfile={target}", limit=60)
    assert code == 0, said
    return target.read_bytes()


async def ran(*command: str, limit: float) -> tuple[int, str]:
    """Run a program among the installed files; return its exit code and all that it said."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CACHE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        out, _ = await asyncio.wait_for(process.communicate(), limit)
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, f"not done after {limit:g} s"
    return process.returncode or 0, out.decode(errors="replace")
