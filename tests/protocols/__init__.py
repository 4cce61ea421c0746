"""Tests of the protocol fronts."""
