"""The chassis' own tables, in one MetaData; `Database.start` makes those that are missing."""

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text

_Position = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only what is declared INTEGER

chassis = MetaData()

outbox = Table(
    "interlock_outbox",
    chassis,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("type", String(255), nullable=False),
    Column("partition_key", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)
"""Events that are not sent yet; a row is removed once the broker has the event."""

inbox = Table(
    "interlock_inbox",
    chassis,
    Column("consumer", String(255), primary_key=True),
    Column("event_id", String(255), primary_key=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("touched_at", Float, nullable=False),
    Column("processed_at", Float),
    Index("interlock_inbox_age", "touched_at"),
)
"""Events that a consumer has begun (attempts), and those it is done with (`processed_at` is set)."""

fences = Table(
    "interlock_fences",
    chassis,
    Column("name", String(255), primary_key=True),
    Column("fencing", BigInteger, nullable=False),
)
"""The highest fencing number seen of each lease that is kept elsewhere, such as a broker's partition."""

leases = Table(
    "interlock_leases",
    chassis,
    Column("name", String(255), primary_key=True),
    Column("owner", String(255), nullable=False),
    Column("fencing", BigInteger, nullable=False),
    Column("expires_at", Float, nullable=False),
)
"""Who alone may do something now; the fencing number grows with each change of hands."""

idempotency = Table(
    "interlock_idempotency",
    chassis,
    Column("operation", String(255), primary_key=True),
    Column("caller", String(255), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("claim", String(64), nullable=False),
    Column("leased_until", Float, nullable=False),
    Column("answer", LargeBinary),
    Column("expires_at", Float, nullable=False),
    Index("interlock_idempotency_age", "expires_at"),
)
"""Answers of KEYED operations; while the first call runs, `answer` is null and the claim leased."""

page_keys = Table(
    "interlock_page_keys",
    chassis,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
    Column("created_at", Float, nullable=False),
)
"""Keys that seal page tokens, shared by all workers; the newest seals."""

accounts = Table(
    "interlock_accounts",
    chassis,
    Column("name", String(128), primary_key=True),
    Column("roles", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
)
"""Service accounts; roles are a JSON list."""

api_keys = Table(
    "interlock_api_keys",
    chassis,
    Column("id", String(32), primary_key=True),
    Column("account", String(128), nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("roles", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Index("interlock_api_keys_account", "account"),
)
"""API keys of accounts, of each a keyed hash alone."""


def join(metadata: MetaData) -> None:
    """Copy the chassis' tables into `metadata`, so that a migration tool sees them beside the service's own."""
    for table in chassis.sorted_tables:
        if table.name not in metadata.tables:
            table.to_metadata(metadata)
