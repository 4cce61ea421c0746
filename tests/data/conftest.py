"""Every test of this room runs on SQLite and on PostgreSQL."""

from tests.data.databases import clock, database, database_url

__all__ = ["clock", "database", "database_url"]
