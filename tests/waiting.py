"""Waiting for what happens soon: the users' own `until`."""

from interlock.testing import until

__all__ = ["until"]
