"""The relay: takes events out of a service's outbox to the broker, in order; several relays share the keys."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context

from interlock.data import outbox
from interlock.data.database import Database
from interlock.deadline import Clock, monotonic
from interlock.errors import Error
from interlock.events.broker import Broker, BrokerUnavailable
from interlock.events.envelope import Envelope, MalformedEnvelope, from_attributes
from interlock.stamps import uuid7

log = logging.getLogger("interlock")

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds before a broker that failed is tried again; the pause doubles from the first to the longest."""


class Relay:
    """Sends the outbox of `database` to `broker`; several relays on one database share its keys, by leased shards.

    Woken by the outbox's bell; it looks every `poll` seconds anyway. Rows leave the outbox once the broker has them;
    while it is away they stay. The shards of a relay that dies are taken over after `lease` seconds. Events may be sent
    twice, never out of order within a key. `relayed` is told of each batch: the `traceparent` of its events, and the
    seconds that the broker took. Belongs to one event loop.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        batch: int = 500,
        poll: float = 1.0,
        lease: float = 10.0,
        clock: Clock = monotonic,
        relayed: Callable[[list[str], float], None] | None = None,
    ) -> None:
        self._database = database
        self._broker = broker
        self._batch = batch
        self._poll = poll
        self._lease = lease
        self._clock = clock
        self._relayed = relayed
        self._owner = uuid7()
        self._shards: dict[int, int] = {}
        self._share = 0
        self._renewed = 0.0
        self._stuck: set[str] = set()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to relay."""
        self._stopping.clear()
        await outbox.listen(self._database)
        self._task = asyncio.create_task(self._run(), name="relay", context=Context())

    async def stop(self, limit: float = 5.0) -> None:
        """Send what is still there, for `limit` seconds at most, then hand the lease on."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        await self._database.outbox_bell.ring()
        await asyncio.wait((task,), timeout=limit)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        try:
            for shard in tuple(self._shards):
                await self._give_up(shard)
            await outbox.release(self._database, f"relay/{self._owner}", self._owner, 1)
        except Error as away:
            log.warning("the relay's leases were not handed on, and run out by themselves: %s", away)
        self._shards.clear()
        self._database.relays = False

    async def _run(self) -> None:
        failures = 0
        while True:
            heard = self._database.outbox_bell.heard
            try:
                sent = await self._turn()
                failures = 0
            except Exception as failed:
                if self._stopping.is_set():
                    log.warning("the relay stops with events in the outbox, which are sent later: %s", failed)
                    return
                if not failures:
                    expected = isinstance(failed, BrokerUnavailable | Error)
                    log.warning("the relay waits: %s", failed, exc_info=None if expected else failed)
                failures += 1
                most = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
                await self._sleep(random.uniform(most / 2, most))  # noqa: S311 - jitter, not a secret
                continue
            if not sent:
                if self._stopping.is_set():
                    return
                if self._shards:
                    await self._database.outbox_bell.wait(heard, timeout=self._poll)
                else:  # the bell is for those that hold a shard
                    await self._sleep(self._poll)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _turn(self) -> int:
        """Send one batch and return how many rows left the outbox; 0 too while other relays have all shards."""
        now = self._clock()
        lacking = len(self._shards) < max(self._share, 1)
        if not self._share or now - self._renewed >= (min(self._poll, self._lease / 3) if lacking else self._lease / 3):
            await self._claim()
            self._renewed = now
            self._stuck.clear()
        if not self._shards:
            return 0
        rows = await outbox.pending(self._database, self._batch, excluding=self._stuck, shards=self._shards)
        if not rows:
            return 0
        began = self._clock()
        try:
            await self._broker.publish([_envelope(row) for row in rows])
            sent = [row.id for row in rows]
        except BrokerUnavailable:
            raise
        except Exception:  # one of them is at fault: the others must not wait for it
            sent = await self._one_by_one(rows)
        if self._relayed is not None:
            self._relayed([row.attributes.get("traceparent", "") for row in rows], self._clock() - began)
        await outbox.remove(self._database, sent)
        return len(rows)

    async def _claim(self) -> None:
        """Renew the shards held, give up what is above the fair share, take what is free below it."""
        relays = await outbox.attend(self._database, self._owner, self._lease)
        self._share = -(-outbox.SHARDS // max(1, relays))
        for shard in sorted(self._shards)[self._share :]:
            await self._give_up(shard)
        for shard in (*self._shards, *(set(range(outbox.SHARDS)) - self._shards.keys())):
            if shard not in self._shards and len(self._shards) >= self._share:
                break
            fencing = await outbox.acquire_lease(self._database, outbox.shard_name(shard), self._owner, self._lease)
            if fencing is None:
                self._shards.pop(shard, None)
            else:
                self._shards[shard] = fencing
        self._database.relays = len(self._shards) == outbox.SHARDS

    async def _give_up(self, shard: int) -> None:
        fencing = self._shards.pop(shard)
        await outbox.release(self._database, outbox.shard_name(shard), self._owner, fencing)

    async def _one_by_one(self, rows: list[outbox.OutboxRow]) -> list[str]:
        sent = []
        for row in rows:
            if row.partition_key in self._stuck:
                continue
            try:
                await self._broker.publish([_envelope(row)])
                sent.append(row.id)
            except BrokerUnavailable:
                break
            except Exception:
                log.exception("event %s (%s) can't be sent; it holds back its key", row.id, row.type)
                self._stuck.add(row.partition_key)
        return sent


def _envelope(row: outbox.OutboxRow) -> Envelope:
    try:
        return from_attributes(row.attributes, row.data)
    except MalformedEnvelope as wrong:
        raise MalformedEnvelope(f"outbox row {row.id}: {wrong}") from None
