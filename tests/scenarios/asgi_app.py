"""The sample app as a server that others wrote imports it."""

from tests.sample.handlers import make

app = make()
