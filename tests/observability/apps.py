"""An app for processes under test: ready while no file `broken` stands beside it."""

from pathlib import Path

from interlock import App
from interlock.settings import Settings
from tests.server.apps import Answering


async def whole() -> None:
    """Raise while the file is there, with what it says."""
    if said := told():
        raise RuntimeError(said)


def told() -> str:
    """Return what the file says."""
    path = Path("broken")
    return path.read_text() if path.exists() else ""


def make() -> App:
    """Make the app."""
    return App(Answering(), settings=Settings(), checks={"warehouse": whole})
