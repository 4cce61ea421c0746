"""Tests; the folders mirror src/interlock."""
