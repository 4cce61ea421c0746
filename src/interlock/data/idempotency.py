"""SQL of stored answers: claimed before a KEYED call runs, kept in its transaction, given again to its repetitions."""

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Executable, and_, delete, literal, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from interlock.call import uuid7
from interlock.data.answer import Answer, Claim, Identity
from interlock.data.tables import idempotency
from interlock.errors import Aborted, KeyReused

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction


class StoredAnswers:
    """The answers in `database`, good for `lifetime` from their call's beginning."""

    def __init__(self, database: "Database", *, lifetime: timedelta = timedelta(hours=24)) -> None:
        self.database = database
        self._lifetime = lifetime.total_seconds()

    async def claim(self, identity: Identity, fingerprint: bytes, seconds: float) -> Claim | Answer:
        """Return the answer given before, or the claim to give it, in a transaction of its own.

        The claim is exclusive for `seconds`; one whose process died is free after that, and what its call may still
        write is refused. KeyReused if the key came with another request, Aborted while its first call runs.
        """
        claim = Claim(identity=identity, token=uuid7())
        insert = self._claiming(claim, fingerprint, seconds)
        columns = (idempotency.c.fingerprint, idempotency.c.answer)

        async def work(tx: "Transaction") -> Claim | Answer:
            if (await tx.execute(insert)).first() is not None:
                return claim
            found = (await tx.execute(select(*columns).where(_row(identity)))).one()
            if found.fingerprint != fingerprint:
                raise KeyReused("the idempotency key was used before, for another request")
            if found.answer is None:
                raise Aborted("the first call with this idempotency key has not ended yet")
            return Answer.from_bytes(found.answer)

        # a claim lost with the power makes its call's `keep` fail: nothing depends on it being on disk
        return await self.database.run(work, durable=False)

    def _claiming(self, claim: Claim, fingerprint: bytes, seconds: float) -> Executable:
        now = self.database.now()
        dialect = postgresql if self.database.is_postgresql else sqlite
        query: postgresql.Insert | sqlite.Insert = dialect.insert(idempotency).values(
            operation=claim.identity.operation,
            caller=claim.identity.caller,
            key=claim.identity.key,
            fingerprint=fingerprint,
            claim=claim.token,
            leased_until=now + literal(seconds),
            answer=None,
            expires_at=now + literal(self._lifetime),
        )
        new = {name: query.excluded[name] for name in ("fingerprint", "claim", "leased_until", "answer", "expires_at")}
        abandoned = and_(idempotency.c.answer.is_(None), idempotency.c.leased_until <= now)
        return query.on_conflict_do_update(
            index_elements=[idempotency.c.operation, idempotency.c.caller, idempotency.c.key],
            set_=new,
            where=or_(idempotency.c.expires_at <= now, abandoned),
        ).returning(idempotency.c.claim)

    async def keep(self, tx: "Transaction", claim: Claim, answer: Answer) -> None:
        """Store the answer within `tx`; Aborted if the claim was taken over, so that `tx` must not commit."""
        query = update(idempotency).where(_row(claim.identity), idempotency.c.claim == claim.token)
        if (await tx.execute(query.values(answer=answer.to_bytes()))).rowcount != 1:
            raise Aborted("the call took so long that another with its idempotency key has begun")

    async def keep_alone(self, claim: Claim, answer: Answer) -> None:
        """Store the answer in a transaction of its own, for a call that changed nothing."""

        async def work(tx: "Transaction") -> None:
            await self.keep(tx, claim, answer)

        await self.database.run(work)

    async def abandon(self, claim: Claim) -> None:
        """Let go of a claim whose call came to nothing, so that a repetition runs; what was kept stays."""
        query = delete(idempotency).where(
            _row(claim.identity), idempotency.c.claim == claim.token, idempotency.c.answer.is_(None)
        )

        async def work(tx: "Transaction") -> None:
            await tx.execute(query)

        await self.database.run(work, durable=False)

    async def purge(self, *, limit: int = 1000) -> int:
        """Remove up to `limit` expired answers and return how many; call it until it returns 0."""
        key = (idempotency.c.operation, idempotency.c.caller, idempotency.c.key)
        old = select(*key).where(idempotency.c.expires_at <= self.database.now()).limit(limit)

        async def work(tx: "Transaction") -> int:
            rows = [tuple(row) for row in await tx.execute(old)]
            if rows:
                await tx.execute(delete(idempotency).where(tuple_(*key).in_(rows)))
            return len(rows)

        return await self.database.run(work, durable=False)


def _row(identity: Identity) -> ColumnElement[bool]:
    return and_(
        idempotency.c.operation == identity.operation,
        idempotency.c.caller == identity.caller,
        idempotency.c.key == identity.key,
    )
