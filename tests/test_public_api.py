"""The public names: one table, and every one of them there and documented."""

import inspect
import subprocess
import sys

import interlock


def test_every_public_name_is_there_and_says_what_it_is() -> None:
    """Each name in `__all__` resolves; classes and functions have docstrings."""
    for name in interlock.__all__:
        value = getattr(interlock, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert value.__doc__, f"interlock.{name} has no docstring"


def test_type_checkers_and_run_time_see_the_same_names() -> None:
    """The names imported for type checkers are those of the table."""
    source = interlock.__spec__
    assert source is not None
    assert source.origin is not None
    with open(source.origin) as file:  # noqa: PTH123 - one line
        text = file.read()
    typed = {line.rsplit(" as ", 1)[1].strip() for line in text.splitlines() if line.startswith("    from ")}
    assert typed | {"__version__"} == set(interlock.__all__)


def test_importing_interlock_stays_light() -> None:
    """`import interlock` brings none of the heavy libraries along."""
    heavy = ("grpc", "pydantic", "structlog", "h2corn", "protovalidate", "typer", "rich", "protobuf")
    program = f"import sys, interlock; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name fails as on any module."""
    assert not hasattr(interlock, "Appp")
