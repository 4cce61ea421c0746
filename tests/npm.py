"""Packages of npm that tests use as judges and peers, installed below .cache when one is first needed."""

import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("INTERLOCK_TEST_CACHE", Path(__file__).resolve().parents[1] / ".cache"))


class NotInstalled(Exception):
    """The package is not there and can't be had; the message says why."""


def installed(name: str, package: str) -> Path:
    """Return the directory `name` of the cache, in which `package` (`name@version`) is installed."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise NotInstalled("no node and npm here: install node 20 or newer")
    directory = CACHE / name
    if not (directory / "node_modules" / package.rpartition("@")[0] / "package.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        options = ["--no-audit", "--no-fund", "--no-save", "--fetch-retries=1", "--prefix", str(directory)]
        try:
            ran = subprocess.run(
                ["npm", "install", *options, package], capture_output=True, text=True, check=False, timeout=240
            )
        except subprocess.TimeoutExpired:
            raise NotInstalled(f"npm does not come to an end with {package}; is there a network?") from None
        if ran.returncode:
            raise NotInstalled(f"npm can't install {package}: {ran.stderr[-300:]}")
    return directory
