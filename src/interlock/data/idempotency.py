"""SQL of stored answers: claimed before a KEYED call runs, kept in its transaction, given again to its repetitions."""

from datetime import timedelta
from typing import TYPE_CHECKING

from interlock.data.answer import Answer, Claim, Identity
from interlock.errors import Aborted, KeyReused
from interlock.stamps import uuid7

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.transaction import Transaction

_ROW = "operation = $1 AND caller = $2 AND key = $3"
_CLAIM = (
    "INSERT INTO interlock_idempotency AS stored "
    "(operation, caller, key, fingerprint, claim, leased_until, answer, expires_at) "
    "VALUES ($1, $2, $3, $4, $5, {0} + $7, NULL, {0} + $8) ON CONFLICT (operation, caller, key) DO UPDATE SET "
    "fingerprint = excluded.fingerprint, claim = excluded.claim, leased_until = excluded.leased_until, "
    "answer = NULL, expires_at = excluded.expires_at "
    "WHERE stored.expires_at <= {0} OR (stored.answer IS NULL AND stored.leased_until <= {0}) RETURNING 1"
)
_FIND = f"SELECT fingerprint, answer FROM interlock_idempotency WHERE {_ROW}"  # noqa: S608 - a constant
_KEEP = f"UPDATE interlock_idempotency SET answer = $5 WHERE {_ROW} AND claim = $4 RETURNING 1"  # noqa: S608
_ABANDON = f"DELETE FROM interlock_idempotency WHERE {_ROW} AND claim = $4 AND answer IS NULL"  # noqa: S608
_PURGE = (
    "DELETE FROM interlock_idempotency WHERE (operation, caller, key) IN "
    "(SELECT operation, caller, key FROM interlock_idempotency WHERE expires_at <= {} LIMIT $2) RETURNING 1"
)
_NOW = "coalesce(CAST({} AS float8), extract(epoch FROM clock_timestamp())::float8)"


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
        claim, row = Claim(identity=identity, token=uuid7()), _row(identity)
        times = (self.database.time, float(seconds), self._lifetime)

        async def work(tx: "Transaction") -> Claim | Answer:
            if await tx.fetch((_CLAIM.format(self._now("$6")), (*row, fingerprint, claim.token, *times))):
                return claim
            ((stored, answer),) = await tx.fetch((_FIND, row))
            if stored != fingerprint:
                raise KeyReused("the idempotency key was used before, for another request")
            if answer is None:
                raise Aborted("the first call with this idempotency key has not ended yet")
            return Answer.from_bytes(answer)

        # a claim lost with the power makes its call's `keep` fail: nothing depends on it being on disk
        return await self.database.run(work, durable=False)

    async def keep(self, tx: "Transaction", claim: Claim, answer: Answer) -> None:
        """Store the answer within `tx`; Aborted if the claim was taken over, so that `tx` must not commit."""
        if not await tx.fetch((_KEEP, (*_row(claim.identity), claim.token, answer.to_bytes()))):
            raise Aborted("the call took so long that another with its idempotency key has begun")

    async def keep_alone(self, claim: Claim, answer: Answer) -> None:
        """Store the answer in a transaction of its own, for a call that changed nothing."""

        async def work(tx: "Transaction") -> None:
            await self.keep(tx, claim, answer)

        await self.database.run(work)

    async def abandon(self, claim: Claim) -> None:
        """Let go of a claim whose call came to nothing, so that a repetition runs; what was kept stays."""

        async def work(tx: "Transaction") -> None:
            await tx.fetch((_ABANDON, (*_row(claim.identity), claim.token)))

        await self.database.run(work, durable=False)

    async def purge(self, *, limit: int = 1000) -> int:
        """Remove up to `limit` expired answers and return how many; call it until it returns 0."""

        async def work(tx: "Transaction") -> int:
            return len(await tx.fetch((_PURGE.format(self._now("$1")), (self.database.time, limit))))

        return await self.database.run(work, durable=False)

    def _now(self, parameter: str) -> str:
        return _NOW.format(parameter) if self.database.is_postgresql else parameter


def _row(identity: Identity) -> tuple[str, str, str]:
    return identity.operation, identity.caller, identity.key
