"""`python -m shop`: the shop in one process, a first order placed, serving until Ctrl-C."""

import sys

from shop.steps import say


def run() -> int:
    """Run the tour; 0 after Ctrl-C, 1 if it could not start or the first order went wrong, 130 if broken off."""
    try:
        say("loading Interlock and the shop")
        from shop.tour import tour  # noqa: PLC0415 - it takes a second, and the line above stands there by then

        return tour()
    except KeyboardInterrupt:  # while it started, or for the second time
        return 130


if __name__ == "__main__":
    sys.exit(run())
