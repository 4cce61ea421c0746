"""Benchmarks of the reference call against the servers and clients people would use instead: `python -m bench`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_shop = str(ROOT / "examples" / "shop")  # the contract that is measured, and its generated code
if _shop not in sys.path:
    sys.path.insert(1, _shop)
