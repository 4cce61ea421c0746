"""Service accounts and API keys in one JSON file, for services without a database; readable for its owner alone."""

import base64
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from interlock.call import in_thread
from interlock.data.account import Account, ApiKey
from interlock.errors import AlreadyExists, NotFound, Unavailable

T = TypeVar("T")
_Stamp = tuple[int, int, int]


class AccountFile:
    """The accounts and keys in the file at `path`; a reader sees the old file or the new one, never a part.

    Read again when it has changed on disk. Processes that write take turns. Every method does its work in a thread;
    Unavailable where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self._known: tuple[dict[str, Account], dict[str, ApiKey]] = ({}, {})

    async def create(self, account: Account) -> None:
        """Add an account; AlreadyExists if its name is taken."""

        def add(accounts: dict[str, Account], _keys: dict[str, ApiKey]) -> None:
            if account.name in accounts:
                raise AlreadyExists(f"there is an account {account.name!r} already")
            accounts[account.name] = account

        await in_thread(self._change, add)

    async def accounts(self) -> list[Account]:
        """Return all accounts, by name."""
        accounts, _ = await in_thread(self._read)
        return [accounts[name] for name in sorted(accounts)]

    async def disable(self, name: str, *, disabled: bool = True) -> None:
        """Let no key of an account count, or all again; NotFound if there is none of that name."""

        def change(accounts: dict[str, Account], _keys: dict[str, ApiKey]) -> None:
            if name not in accounts:
                raise NotFound(f"there is no account {name!r}")
            accounts[name] = replace(accounts[name], disabled=disabled)

        await in_thread(self._change, change)

    async def add_key(self, key: ApiKey) -> None:
        """Add a key to its account; NotFound if there is none of that name."""

        def add(accounts: dict[str, Account], keys: dict[str, ApiKey]) -> None:
            if key.account not in accounts:
                raise NotFound(f"there is no account {key.account!r}")
            keys[key.id] = key

        await in_thread(self._change, add)

    async def keys(self, account: str = "") -> list[ApiKey]:
        """Return the keys of an account, or of all, newest first; revoked and expired ones too."""
        _, keys = await in_thread(self._read)
        found = [each for each in keys.values() if not account or each.account == account]
        return sorted(found, key=lambda each: (-each.created_at, each.id))

    async def revoke(self, key_id: str, at: float) -> None:
        """Let a key count no more; NotFound if there is none of that id that counts still."""

        def change(_accounts: dict[str, Account], keys: dict[str, ApiKey]) -> None:
            if key_id not in keys or keys[key_id].revoked_at is not None:
                raise NotFound(f"there is no key {key_id!r} that could be revoked")
            keys[key_id] = replace(keys[key_id], revoked_at=at)

        await in_thread(self._change, change)

    async def find(self, key_id: str) -> tuple[ApiKey, Account] | None:
        """Return a key and its account; None if there is none of that id."""
        accounts, keys = await in_thread(self._read)
        key = keys.get(key_id)
        account = accounts.get(key.account) if key is not None else None
        return (key, account) if key is not None and account is not None else None

    def _read(self) -> tuple[dict[str, Account], dict[str, ApiKey]]:
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._known = _decoded(json.loads(self._path.read_bytes()))
                self._stamp = stamp
        except FileNotFoundError:
            return {}, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"{self._path} cannot be read as accounts: {type(error).__name__}") from error
        return self._known

    def _change(self, change: Callable[[dict[str, Account], dict[str, ApiKey]], None]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(self._path):
            accounts, keys = self._read()
            accounts, keys = dict(accounts), dict(keys)
            change(accounts, keys)
            fresh = self._path.with_name(f".{self._path.name}.{token_hex(8)}")
            file = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            try:
                with os.fdopen(file, "w") as out:
                    json.dump(_encoded(accounts, keys), out, indent=2)
                    out.flush()
                    os.fsync(file)
                fresh.replace(self._path)
            finally:
                fresh.unlink(missing_ok=True)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other writers out, of this process and of others."""
    file = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _encoded(accounts: dict[str, Account], keys: dict[str, ApiKey]) -> dict[str, Any]:
    return {
        "accounts": [asdict(each) for each in accounts.values()],
        "keys": [asdict(each) | {"hash": base64.b64encode(each.hash).decode()} for each in keys.values()],
    }


def _decoded(document: Any) -> tuple[dict[str, Account], dict[str, ApiKey]]:
    accounts = [Account(**each | {"roles": tuple(each["roles"])}) for each in document["accounts"]]
    keys = [
        ApiKey(**each | {"roles": tuple(each["roles"]), "hash": base64.b64decode(each["hash"], validate=True)})
        for each in document["keys"]
    ]
    return {each.name: each for each in accounts}, {each.id: each for each in keys}
