"""Attacks on the real runner over real sockets: others are answered meanwhile, and the worker outlives them."""
