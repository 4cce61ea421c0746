"""The directory that workers share: one for each parent, and none left of those that are gone."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import interlock
from interlock.server.shared import PREFIX, SharedDirectory

PARENT = "from interlock.server.shared import SharedDirectory as D; d = D(); print(d.path, flush=True); input()"


def parent(directory: Path) -> tuple[subprocess.Popen[str], Path]:
    """Run a parent whose temporary files go there; return it with its directory."""
    environment = {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(Path(interlock.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_parent_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a living one stays, and so does what is none of ours, or leads elsewhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "parent.lock").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    (tmp_path / f"{PREFIX}other").mkdir()
    killed, left = parent(tmp_path)
    living, kept = parent(tmp_path)
    with killed, living:
        killed.kill()
        killed.wait()
        (left / "orders").mkdir()
        (left / "orders" / "7.errors").write_text("[]")
        shared = SharedDirectory()
        assert not left.exists()
        assert kept.is_dir()
        assert shared.path.stat().st_mode & 0o777 == 0o700
        shared.close()
        assert not shared.path.exists()
        living.kill()
    assert {each.name for each in tmp_path.iterdir()} == {"elsewhere", f"{PREFIX}link", f"{PREFIX}other", kept.name}
    assert (elsewhere / "parent.lock").exists()
