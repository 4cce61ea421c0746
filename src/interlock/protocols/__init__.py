"""Bytes to `Call` and back, a file per protocol and side."""
