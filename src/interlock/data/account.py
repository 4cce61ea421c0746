"""Service accounts and their API keys as plain values, wherever they are kept."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A named principal with roles; disabled, none of its keys counts."""

    name: str
    roles: tuple[str, ...] = ()
    disabled: bool = False
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is kept of an API key: its id (the part that may be seen), and a hash of the rest.

    `roles` narrow those of its account; none named: all of them. Times are seconds since 1970.
    """

    id: str
    account: str
    hash: bytes = field(repr=False)
    roles: tuple[str, ...] = ()
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
