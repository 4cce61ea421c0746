"""The store of idempotent answers held against a dictionary: claims, answers, crashes and time in any order."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)

from interlock.data import Database
from interlock.data.answer import Answer, Claim, Identity
from interlock.data.idempotency import StoredAnswers
from interlock.errors import Aborted, KeyReused
from tests.data.databases import ENGINES, Clock, drop, new_url

LEASE, LIFETIME = 45.0, 1000.0
KEYS, REQUESTS = st.sampled_from(["k-1", "k-2"]), st.sampled_from([b"one", b"another"])


@dataclass(slots=True)
class Row:
    """What the model knows of a key."""

    fingerprint: bytes
    claim: Claim
    leased_until: float
    expires_at: float
    answer: bytes | None = None


class Answering(RuleBasedStateMachine):
    """Calls of one caller, of which any may hang, fail, crash or come twice."""

    claims = Bundle[Claim]("claims")

    def __init__(self, runner: asyncio.Runner, store: StoredAnswers, clock: Clock) -> None:
        super().__init__()
        self.runner, self.store, self.clock = runner, store, clock
        self.caller = uuid4().hex
        self.rows: dict[str, Row] = {}

    def teardown(self) -> None:
        """Leave nothing to the next example."""
        self.clock.now += LIFETIME
        self.purge()

    def identity(self, key: str) -> Identity:
        """Return the key as the store knows it."""
        return Identity(operation="/p.S/M", caller=self.caller, key=key)

    def holds(self, claim: Claim) -> Row | None:
        """Return the row that is the claim's, None if it lost it."""
        row = self.rows.get(claim.identity.key)
        return row if row is not None and row.claim == claim else None

    @rule(seconds=st.sampled_from([1.0, LEASE - 1, LEASE, LEASE, LIFETIME - LEASE]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(target=claims, key=KEYS, request=REQUESTS)
    def call(self, key: str, request: bytes) -> MultipleResults[Claim] | Claim:
        row, now = self.rows.get(key), self.clock.now
        free = row is None or row.expires_at <= now or (row.answer is None and row.leased_until <= now)
        try:
            found = self.runner.run(self.store.claim(self.identity(key), request, LEASE))
        except KeyReused:
            assert not free
            assert row is not None
            assert row.fingerprint != request
            return multiple()
        except Aborted:
            assert not free
            assert row is not None
            assert (row.fingerprint, row.answer) == (request, None)
            return multiple()
        if isinstance(found, Answer):
            assert not free
            assert row is not None
            assert (row.fingerprint, row.answer) == (request, found.reply)
            return multiple()
        assert free
        self.rows[key] = Row(request, found, now + LEASE, now + LIFETIME)
        return found

    @rule(claim=claims, reply=st.binary(max_size=4))
    def answer(self, claim: Claim, reply: bytes) -> None:
        row = self.holds(claim)
        try:
            self.runner.run(self.store.keep_alone(claim, Answer(reply=reply)))
        except Aborted:
            assert row is None, "its claim was not taken over"
            return
        assert row is not None, "a call whose claim was taken over was answered"
        row.answer = reply

    @rule(claim=claims, reply=st.binary(max_size=4))
    def answer_that_is_rolled_back(self, claim: Claim, reply: bytes) -> None:
        async def fail() -> None:
            async with self.store.database.transaction() as tx:
                await self.store.keep(tx, claim, Answer(reply=reply))
                raise ZeroDivisionError

        with pytest.raises((ZeroDivisionError, Aborted)):
            self.runner.run(fail())

    @rule(claim=consumes(claims))
    def give_up(self, claim: Claim) -> None:
        self.runner.run(self.store.abandon(claim))
        row = self.holds(claim)
        if row is not None and row.answer is None:
            del self.rows[claim.identity.key]

    @rule(claim=consumes(claims))
    def crash(self, claim: Claim) -> None:
        """Nobody will ever answer or give up."""

    @rule()
    def purge(self) -> None:
        expired = [key for key, row in self.rows.items() if row.expires_at <= self.clock.now]
        assert self.runner.run(self.store.purge()) == len(expired)
        for key in expired:
            del self.rows[key]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_store_keeps_to_its_model(engine: str, tmp_path: Path) -> None:
    """A key has one claim at a time, one answer for one request, and is free again when it should be."""
    with asyncio.Runner() as runner:
        clock = Clock()
        url = runner.run(new_url(engine, tmp_path))
        database = Database(url, clock=clock)
        runner.run(database.__aenter__())
        try:
            store = StoredAnswers(database, lifetime=timedelta(seconds=LIFETIME))
            run_state_machine_as_test(
                lambda: Answering(runner, store, clock),  # type: ignore[arg-type]  # any callable will do
                settings=settings(
                    max_examples=150 if engine == "sqlite" else 40,
                    stateful_step_count=40,
                    deadline=None,
                    suppress_health_check=[HealthCheck.too_slow],
                ),
            )
        finally:
            runner.run(database.__aexit__(None, None, None))
            runner.run(drop(url))
