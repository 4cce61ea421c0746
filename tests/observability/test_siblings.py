"""What workers of one service tell each other through files."""

import os
from pathlib import Path

import pytest

from interlock.observability.siblings import Level, Siblings


def test_a_level_is_heard_once_by_the_others(tmp_path: Path) -> None:
    """Also by one that begins later; who told it does not hear it."""
    one, other = Siblings(tmp_path / "orders"), Siblings(tmp_path / "orders")
    one.tell_level(Level(level="debug"))
    assert one.new_level() is None
    assert other.new_level() == Level(level="debug")
    assert other.new_level() is None
    assert Siblings(tmp_path / "orders").new_level() == Level(level="debug")
    assert Siblings(tmp_path / "payments").new_level() is None


def test_errors_of_the_dead_are_inherited_once(tmp_path: Path) -> None:
    """What a worker that is gone told is taken over, and its file goes."""
    directory = tmp_path / "orders"
    Siblings(directory).tell_errors([{"event": "mine"}])
    (directory / "99999999.errors").write_text('[{"event": "theirs"}]')
    (directory / "99999998.errors").write_text("half of a li")
    one = Siblings(directory)
    assert one.errors() == [{"event": "theirs"}]
    assert one.inherit() == [{"event": "theirs"}]
    assert one.inherit() == []
    assert [each.name for each in directory.iterdir()] == [f"{os.getpid()}.errors"]


def test_a_directory_that_is_gone_stays_gone(tmp_path: Path) -> None:
    """A worker that outlives its parent leaves nothing behind where files were shared."""
    one = Siblings(tmp_path / "gone" / "orders")
    with pytest.raises(OSError, match="gone"):
        one.tell_errors([{"event": "late"}])
    assert list(tmp_path.iterdir()) == []
