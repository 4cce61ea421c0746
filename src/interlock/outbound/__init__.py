"""Outbound HTTP: third parties' APIs, called with the same retries, breakers, bulkheads, deadlines and limits."""

from interlock.outbound.client import HttpClient
from interlock.outbound.external import External

__all__ = ["External", "HttpClient"]
