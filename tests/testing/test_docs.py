"""The examples of docs/testing.md, run by pytest in a process of its own, with the plugin as it is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


def test_the_examples_pass(tmp_path: Path) -> None:
    """All of them, in the order of the page."""
    blocks = FENCE.findall((ROOT / "docs/testing.md").read_text())
    suite = tmp_path / "test_examples.py"
    suite.write_text("\n\n".join(blocks))
    (tmp_path / "pytest.ini").write_text(INI)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT / "examples/shop"), str(ROOT / "src")))}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", str(suite)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    wanted = sum(block.count("async def test_") for block in blocks)
    assert f"{wanted} passed" in result.stdout
