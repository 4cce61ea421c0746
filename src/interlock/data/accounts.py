"""SQL of service accounts and API keys, in the service's own database."""

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from interlock.data.account import Account, ApiKey
from interlock.data.tables import accounts, api_keys
from interlock.errors import AlreadyExists, NotFound

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction


class StoredAccounts:
    """The accounts and keys in `database`; every change is one transaction."""

    def __init__(self, database: "Database") -> None:
        self.database = database

    async def create(self, account: Account) -> None:
        """Add an account; AlreadyExists if its name is taken."""
        row = {
            "name": account.name,
            "roles": json.dumps(account.roles),
            "disabled": account.disabled,
            "created_at": account.created_at,
        }

        async def work(tx: "Transaction") -> None:
            if (await tx.execute(select(accounts.c.name).where(accounts.c.name == account.name))).first() is not None:
                raise AlreadyExists(f"there is an account {account.name!r} already")
            await tx.execute(insert(accounts).values(row))

        try:
            await self.database.run(work)
        except IntegrityError:
            raise AlreadyExists(f"there is an account {account.name!r} already") from None

    async def accounts(self) -> list[Account]:
        """Return all accounts, by name."""

        async def work(tx: "Transaction") -> list[Account]:
            return [_account(row) for row in await tx.execute(select(accounts).order_by(accounts.c.name))]

        return await self.database.run(work)

    async def disable(self, name: str, *, disabled: bool = True) -> None:
        """Let no key of an account count, or all again; NotFound if there is none of that name."""
        await self._changed(
            update(accounts).where(accounts.c.name == name).values(disabled=disabled), f"there is no account {name!r}"
        )

    async def add_key(self, key: ApiKey) -> None:
        """Add a key to its account; NotFound if there is none of that name."""
        row = {
            "id": key.id,
            "account": key.account,
            "hash": key.hash,
            "roles": json.dumps(key.roles),
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "revoked_at": key.revoked_at,
        }

        async def work(tx: "Transaction") -> None:
            if (await tx.execute(select(accounts.c.name).where(accounts.c.name == key.account))).first() is None:
                raise NotFound(f"there is no account {key.account!r}")
            await tx.execute(insert(api_keys).values(row))

        await self.database.run(work)

    async def keys(self, account: str = "") -> list[ApiKey]:
        """Return the keys of an account, or of all, newest first; revoked and expired ones too."""
        query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id)
        if account:
            query = query.where(api_keys.c.account == account)

        async def work(tx: "Transaction") -> list[ApiKey]:
            return [_key(row) for row in await tx.execute(query)]

        return await self.database.run(work)

    async def revoke(self, key_id: str, at: float) -> None:
        """Let a key count no more; NotFound if there is none of that id that counts still."""
        query = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        await self._changed(query.values(revoked_at=at), f"there is no key {key_id!r} that could be revoked")

    async def find(self, key_id: str) -> tuple[ApiKey, Account] | None:
        """Return a key and its account; None if there is none of that id."""
        query = (
            select(
                api_keys,
                accounts.c.name,
                accounts.c.roles.label("held"),
                accounts.c.disabled,
                accounts.c.created_at.label("since"),
            )
            .join(accounts, accounts.c.name == api_keys.c.account)
            .where(api_keys.c.id == key_id)
        )
        async with self.database.transaction(read_only=True) as tx:
            row = (await tx.execute(query)).first()
        if row is None:
            return None
        account = Account(
            name=row.name, roles=tuple(json.loads(row.held)), disabled=bool(row.disabled), created_at=row.since
        )
        return _key(row), account

    async def _changed(self, query: Any, missing: str) -> None:
        async def work(tx: "Transaction") -> None:
            if (await tx.execute(query)).rowcount != 1:
                raise NotFound(missing)

        await self.database.run(work)


def _account(row: Any) -> Account:
    return Account(
        name=row.name, roles=tuple(json.loads(row.roles)), disabled=bool(row.disabled), created_at=row.created_at
    )


def _key(row: Any) -> ApiKey:
    return ApiKey(
        id=row.id,
        account=row.account,
        hash=row.hash,
        roles=tuple(json.loads(row.roles)),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
