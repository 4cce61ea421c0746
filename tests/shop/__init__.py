"""The reference platform, tested as its users use it."""
