"""API keys (`X-API-Key`): made for a service account, verified against a store, remembered for moments only.

A key is `ilk_ID_SECRET`: the prefix lets scanners find one that leaked, the id names it in lists and logs, and of the
secret (256 random bits) only a keyed hash is kept. A fast hash is right: nobody guesses what is random.
"""

import asyncio
import hashlib
import hmac
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Iterable
from contextvars import Context
from dataclasses import dataclass
from datetime import timedelta
from secrets import token_bytes
from typing import TYPE_CHECKING, NoReturn, Protocol

from interlock.call import Principal
from interlock.data.account import Account, ApiKey
from interlock.deadline import Clock, monotonic
from interlock.errors import InvalidArgument, ResourceExhausted, Unavailable
from interlock.resilience.sliding import SlidingCount
from interlock.security.gauges import Gauges
from interlock.security.keys import Now
from interlock.security.refused import CredentialRefused

if TYPE_CHECKING:
    from interlock.data.database import Database

log = logging.getLogger("interlock.security")

ISSUER = "api-key"
_FORM = re.compile(r"ilk_([0-9a-z]{16})_([0-9a-f]{64})\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_NOTHING = bytes(32)
_LATELY = 3600.0


class AccountStore(Protocol):
    """Where accounts and keys are kept: a file, or a database."""

    async def create(self, account: Account) -> None:
        """Add an account; AlreadyExists if its name is taken."""
        ...

    async def accounts(self) -> list[Account]:
        """Return all accounts, by name."""
        ...

    async def disable(self, name: str, *, disabled: bool = True) -> None:
        """Let no key of an account count, or all again; NotFound if there is none of that name."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Add a key to its account; NotFound if there is none of that name."""
        ...

    async def keys(self, account: str = "") -> list[ApiKey]:
        """Return the keys of an account, or of all, newest first; revoked and expired ones too."""
        ...

    async def revoke(self, key_id: str, at: float) -> None:
        """Let a key count no more; NotFound if there is none of that id that counts still."""
        ...

    async def find(self, key_id: str) -> tuple[ApiKey, Account] | None:
        """Return a key and its account; None if there is none of that id."""
        ...


async def create_account(store: AccountStore, name: str, roles: Iterable[str] = (), *, now: Now = time.time) -> Account:
    """Add an account to `store`; InvalidArgument for a name that is none, AlreadyExists if it is taken."""
    if not _NAME.match(name):
        raise InvalidArgument(f"{name!r} is no name of an account: up to 128 letters, digits, '.', '_' and '-'")
    account = Account(name=name, roles=tuple(sorted(set(roles))), created_at=now())
    await store.create(account)
    return account


async def create_key(
    store: AccountStore,
    account: str,
    roles: Iterable[str] = (),
    *,
    lifetime: timedelta | None = None,
    pepper: bytes = b"",
    now: Now = time.time,
) -> tuple[ApiKey, str]:
    """Make a key for an account, and return what is kept of it and the key itself, which nobody can show again.

    `roles` narrow the account's; InvalidArgument for one that it does not hold, NotFound without such an account.
    """
    wanted = tuple(sorted(set(roles)))
    held = next((each.roles for each in await store.accounts() if each.name == account), None)
    if held is not None and (unheld := sorted(set(wanted) - set(held))):
        raise InvalidArgument(f"the account {account} does not hold the role {unheld[0]!r}, so its key cannot")
    key_id, secret = token_bytes(8).hex(), token_bytes(32).hex()
    at = now()
    key = ApiKey(
        id=key_id,
        account=account,
        hash=_hash(key_id, secret, pepper),
        roles=wanted,
        created_at=at,
        expires_at=at + lifetime.total_seconds() if lifetime is not None else None,
    )
    await store.add_key(key)
    return key, f"ilk_{key_id}_{secret}"


def _hash(key_id: str, secret: str, pepper: bytes) -> bytes:
    return hmac.digest(pepper + b"\0" + key_id.encode(), secret.encode(), hashlib.sha256)


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    principal: Principal
    checked_at: float
    expires_at: float
    made_at: float


class ApiKeys:
    """Tells whose an API key is, or refuses it.

    What verified is remembered for `oldest` seconds at most, and looked at again behind the calls once it is `fresh`
    seconds old: so long it takes at most until a revocation is in force. After `failures` in a minute an address is
    not listened to for up to a minute more, but for keys that are known. `database` is opened and closed with it.
    Belongs to one event loop.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        pepper: bytes = b"",
        fresh: float = 2.0,
        oldest: float = 4.0,
        most: int = 2048,
        failures: int = 20,
        now: Now = time.time,
        clock: Clock = monotonic,
        database: "Database | None" = None,
    ) -> None:
        self.store = store
        self._database = database
        self._pepper = pepper
        self._fresh = fresh
        self._oldest = oldest
        self._most = most
        self._now = now
        self._clock = clock
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()
        self._checking: dict[bytes, asyncio.Task[Principal]] = {}
        self._failures = _Failures(failures, clock)

    async def start(self) -> None:
        """Open the database that was handed over."""
        if self._database is not None:
            await self._database.start()

    async def close(self) -> None:
        """Stop looking, and close the database that was handed over."""
        for task in tuple(self._checking.values()):
            task.cancel()
        if self._database is not None:
            await self._database.stop()

    def measured(self, metrics: Gauges) -> None:
        """Show the age of the oldest key in use as a metric."""
        metrics.gauge(
            "service_api_key_age_seconds", "Age of the oldest API key that was used lately.", self.age, merge="max"
        )

    def age(self) -> float:
        """Return the seconds since the oldest of the keys that were used in the last hour was made; 0 for none."""
        since = self._clock() - _LATELY
        return max(
            (self._now() - each.made_at for each in self._seen.values() if each.checked_at >= since), default=0.0
        )

    def known(self, value: bytes) -> Principal | None:
        """Return whose key `value` is, if that was found out a moment ago."""
        found = self._seen.get(value)
        if found is None:
            return None
        age = self._clock() - found.checked_at
        if age >= self._oldest or self._now() >= found.expires_at:
            return None
        if age >= self._fresh and value not in self._checking:
            _ = self._check(value)
        self._seen.move_to_end(value)
        return found.principal

    async def verify(self, value: bytes, address: str = "") -> Principal:
        """Return whose key `value` is, and remember it.

        `CredentialRefused` says why not; ResourceExhausted for an address that failed too often, Unavailable where the
        store does not answer.
        """
        self._failures.check(address)
        task = self._checking.get(value) or self._check(value)
        try:
            return await asyncio.shield(task)
        except CredentialRefused:
            self._failures.add(address)
            raise

    def _check(self, value: bytes) -> "asyncio.Task[Principal]":
        # in a context of its own: several calls wait for it, and none lends it a transaction
        task = asyncio.get_running_loop().create_task(self._found(value), context=Context())
        self._checking[value] = task
        task.add_done_callback(lambda done: self._checked(value, done))
        return task

    def _checked(self, value: bytes, task: "asyncio.Task[Principal]") -> None:
        del self._checking[value]
        if not task.cancelled() and isinstance(task.exception(), CredentialRefused):
            self._seen.pop(value, None)

    async def _found(self, value: bytes) -> Principal:
        form = _FORM.match(value.decode("latin-1"))
        if form is None:
            raise CredentialRefused("it has not the form of an API key")
        key_id, secret = form[1], form[2]
        asked_at = self._clock()
        try:
            found = await self.store.find(key_id)
        except Exception as error:
            log.warning("API keys cannot be verified: %r", error)
            raise Unavailable("credentials cannot be verified at the moment") from None
        given = _hash(key_id, secret, self._pepper)
        if not hmac.compare_digest(given, found[0].hash if found is not None else _NOTHING) or found is None:
            raise CredentialRefused(f"the API key ilk_{key_id} is not known")
        key, account = found
        self._judge(key, account)
        roles = frozenset(account.roles) & frozenset(key.roles) if key.roles else frozenset(account.roles)
        principal = Principal(subject=account.name, issuer=ISSUER, roles=roles)
        expires_at = float("inf") if key.expires_at is None else key.expires_at
        self._seen[value] = _Seen(principal, asked_at, expires_at, key.created_at)
        self._seen.move_to_end(value)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return principal

    def _judge(self, key: ApiKey, account: Account) -> None:
        if key.revoked_at is not None:
            raise CredentialRefused(f"the API key ilk_{key.id} is revoked")
        if key.expires_at is not None and self._now() >= key.expires_at:
            raise CredentialRefused(f"the API key ilk_{key.id} has expired")
        if account.disabled:
            raise CredentialRefused(f"the account {account.name} of the API key ilk_{key.id} is disabled")


class _Failures:
    """Failures by address in the last minute, of at most so many addresses."""

    _SPAN = 60.0
    _MOST = 10_000

    def __init__(self, limit: int, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._by_address: OrderedDict[str, SlidingCount] = OrderedDict()

    def check(self, address: str) -> None:
        """Raise ResourceExhausted where there were too many."""
        found = self._by_address.get(address)
        if found is not None and found.at(self._clock()) >= self._limit:
            self._refuse(found.until_fewer(self._clock()))

    def add(self, address: str) -> None:
        """Count one."""
        found = self._by_address.setdefault(address, SlidingCount(self._SPAN))
        found.add(self._clock())
        self._by_address.move_to_end(address)
        if len(self._by_address) > self._MOST:
            self._by_address.popitem(last=False)

    def _refuse(self, wait: float) -> NoReturn:
        raise ResourceExhausted(
            "too many API keys from this address were refused; wait a minute",
            retry_after=timedelta(seconds=int(wait) + 1),
        )
