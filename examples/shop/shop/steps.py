"""What the shop prints while it starts: each step, with the seconds since it began."""

import sys
from time import perf_counter

BEGUN = perf_counter()


def say(text: str) -> None:
    """Print one step with its time."""
    print(f"{perf_counter() - BEGUN:6.2f} s  {text}", flush=True)


def refuse(text: str) -> int:
    """Say why the shop does not run; return the exit code."""
    print(f"shop: {text}", file=sys.stderr)
    return 1
