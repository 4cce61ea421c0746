"""The keys of page tokens, kept in the database, so that all workers and hosts share and rotate them unasked."""

import logging
from secrets import token_bytes
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, literal, select
from sqlalchemy.exc import IntegrityError

from interlock.data.tables import page_keys
from interlock.listing.tokens import PageTokens

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

log = logging.getLogger("interlock.data")

DAY = 86_400.0
NEW_AFTER = 30 * DAY
"""Age in seconds at which the newest key is followed by another."""
KEPT = 3
"""How many keys open tokens: a token is good for one to two months."""


class PageKeys:
    """Gives out the tokens' keys; read at first use, and again when a token names a key that is not known."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._tokens: PageTokens | None = None

    async def tokens(self, tx: "Transaction", wanted: int | None = None) -> PageTokens:
        """Return what seals and opens tokens, `wanted` being the id of the key that a token names."""
        if self._tokens is None or (wanted is not None and not self._tokens.knows(wanted)):
            self._tokens = PageTokens(await self._read(tx))
        return self._tokens

    async def _read(self, tx: "Transaction") -> dict[int, bytes]:
        query = select(page_keys.c.id, page_keys.c.key).order_by(page_keys.c.id.desc()).limit(KEPT)
        rows = (await tx.execute(query)).all()
        return {row.id: row.key for row in rows}

    async def rotate(self) -> None:
        """Make a key if there is none, or the newest is older than `NEW_AFTER`, and drop those past use."""

        async def work(tx: "Transaction") -> None:
            now = self._database.now()
            young = select(page_keys.c.id).where(page_keys.c.created_at > now - literal(NEW_AFTER)).limit(1)
            if (await tx.execute(young)).first() is not None:
                return
            newest = (await tx.execute(select(page_keys.c.id).order_by(page_keys.c.id.desc()).limit(1))).scalar()
            number = (newest or 0) + 1
            await tx.execute(insert(page_keys).values(id=number, key=token_bytes(32), created_at=now))
            await tx.execute(delete(page_keys).where(page_keys.c.id <= number - KEPT))

        try:
            await self._database.run(work)
        except IntegrityError:  # another worker made the same one
            log.debug("another process made the page key")
        self._tokens = None
