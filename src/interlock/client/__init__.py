"""Typed clients: the surface that generated code stands on, the same over the network and in process.

A client's methods take the request's fields and nothing else; options make a cheap view (`using`), the full reply has
one door (`call`).
"""

from interlock.client.channel import Transport
from interlock.client.client import Client
from interlock.client.replies import Paged, ReplyStream, Result
from interlock.client.requests import pick

__all__ = ["Client", "Paged", "ReplyStream", "Result", "Transport", "pick"]
