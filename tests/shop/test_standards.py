"""The shop keeps the standards, and its guide says what its contract says."""

import subprocess
import sys
from pathlib import Path

from interlock.standards import check_contract

SHOP = Path(__file__).resolve().parents[2] / "examples/shop"


def test_the_shop_passes_the_checks_of_the_standards() -> None:
    """`interlock check examples/shop` has no finding."""
    report = check_contract([SHOP])
    assert report.ok, [str(finding) for outcome in report.outcomes for finding in outcome.findings]
    assert report.outcomes


def test_the_guide_is_not_stale() -> None:
    """GUIDE.md is what `interlock guide build` writes now; `make generate` writes it."""
    command = [sys.executable, "-m", "interlock.cli", "guide", "build", str(SHOP), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
