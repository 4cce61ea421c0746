"""The consumer: takes a service's events from the broker, makes each a CONSUMED call, and settles it by its outcome."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial

from interlock.call import Call, Cancellation, Direction, Handler, Principal, current_call
from interlock.contract.model import Operation
from interlock.data.batch import Part
from interlock.data.unit import sharing
from interlock.deadline import NEVER, Deadline
from interlock.errors import Error, Unavailable
from interlock.events.admission import Admission, Closed
from interlock.events.arrival import Arrival
from interlock.events.batch import Run, Runner
from interlock.events.broker import PARTITIONS, Broker, BrokerUnavailable, Delivery, LeaseLost, Subscription
from interlock.events.envelope import Envelope, to_attributes
from interlock.events.pace import Pace
from interlock.metadata import Metadata

log = logging.getLogger("interlock")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds before the broker or the database is tried again; the pause doubles from the first to the longest."""


class Consumer:
    """Consumes the subscriptions of one service: partitions side by side, each in its order, `concurrency` at most.

    `subscribed` are the operations with their composed chains; the group is the service. `failure` turns what a chain
    raised into the call's error. An event whose attempt can't be recorded (the database is down) goes back uncounted,
    and nothing is taken for a while. Up to `batch` events of a partition that wait already share one transaction; 1
    where there is no database, or each is to have its own. Belongs to one event loop.
    """

    def __init__(
        self,
        broker: Broker,
        subscribed: Sequence[tuple[Operation, Handler]],
        *,
        failure: Callable[[Call, BaseException], Error],
        concurrency: int = PARTITIONS,
        batch: int = 1,
    ) -> None:
        if not subscribed:
            raise ValueError("a consumer needs a subscription")
        self.group = subscribed[0][0].service
        self.subscribed_at_broker = False
        """Whether it gets what comes, as far as it knows; for readiness."""
        self._broker = broker
        self._handlers = {operation.name: (operation, handler) for operation, handler in subscribed}
        self._failure = failure
        self._room = asyncio.Semaphore(concurrency)
        self._running: set[asyncio.Task[None]] = set()
        self._calls: set[Call] = set()
        self._loop: asyncio.Task[None] | None = None
        self._subscription: Subscription | None = None
        self._pauses = 0
        self._admission = Admission()
        self._failed: set[str] = set()
        self.paces = {name: Pace(batch) for name in self._handlers}
        """How many events share a transaction now, by their type."""
        self._runner = Runner(self._begin, self._settle, stopping=lambda: self._loop is None, paces=self.paces)

    async def start(self) -> None:
        """Begin to consume; a broker that is not there yet is waited for."""
        self._admission.open()
        self._loop = asyncio.create_task(self._run(), name=f"consumer of {self.group}", context=Context())

    async def drain(self, limit: float) -> None:
        """Take nothing more; let what runs end within `limit` seconds, cancel the rest, which goes back uncounted."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.gather(self._loop, return_exceptions=True)
            self._loop = None
        self._admission.close()
        if self._running:
            await asyncio.wait(self._running, timeout=limit)
        for call in tuple(self._calls):
            call.cancel(Cancellation.DRAIN)
        if self._running:
            await asyncio.wait(self._running, timeout=1.0)

    async def stop(self) -> None:
        """Leave the group; `drain` first, for what runs is cancelled here."""
        await self.drain(0.0)
        subscription, self._subscription = self._subscription, None
        self.subscribed_at_broker = False
        if subscription is not None:
            try:
                await subscription.close()
            except BrokerUnavailable as lost:
                log.warning("the consumer of %s left without telling the broker: %s", self.group, lost)

    async def _run(self) -> None:
        while True:
            await self._room.acquire()
            try:
                delivery = await self._next()
            except BaseException:
                self._room.release()
                raise
            task = asyncio.create_task(self._admit(delivery), context=Context())
            self._running.add(task)
            task.add_done_callback(self._ended)

    async def _next(self) -> Delivery:
        failures = 0
        while True:
            try:
                while self._pauses:
                    await asyncio.sleep(_pause(self._pauses))
                    if not self._running:
                        break  # one event finds out whether the database is back
                if self._subscription is None:
                    self._subscription = await self._broker.subscribe(self.group, tuple(self._handlers))
                self.subscribed_at_broker = True
                return await self._subscription.next()
            except Exception as lost:
                self.subscribed_at_broker = False
                if not failures:
                    trace = None if isinstance(lost, BrokerUnavailable) else lost
                    log.warning("the consumer of %s waits for the broker: %s", self.group, lost, exc_info=trace)
                failures += 1
                await asyncio.sleep(_pause(failures))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the consumer of %s failed to settle an event", self.group, exc_info=error)

    async def _admit(self, delivery: Delivery) -> None:
        """Run an event beside others, but alone one that was begun elsewhere and not ended: it may kill the process."""
        alone = delivery.tried and delivery.envelope.id not in self._failed
        try:
            await self._admission.enter(alone=alone)
        except Closed:
            with suppress(LeaseLost, BrokerUnavailable):
                await delivery.release()
            return
        try:
            await self._runner.run([delivery, *self._behind(delivery)])
        finally:
            self._admission.leave(alone=alone)

    def _behind(self, delivery: Delivery) -> Sequence[Delivery]:
        """Take along what waits behind an event, unless either may have been tried before: those run alone."""
        most = self.paces[delivery.envelope.type].size - 1
        if delivery.tried or most < 1 or self._subscription is None:
            return ()
        return self._subscription.more(delivery, most)

    def _begin(self, delivery: Delivery, part: Part | None) -> Run:
        operation, handle = self._handlers[delivery.envelope.type]
        arrived = Arrival(delivery, operation.request_type)
        call = Call(
            operation,
            metadata=_metadata(delivery.envelope),
            deadline=NEVER if operation.timeout is None else Deadline.after(operation.timeout),
            direction=Direction.CONSUMED,
            principal=Principal(subject=operation.service),
            protocol="event",
            incoming=arrived,
        )
        run = Run(arrived, call, part)
        run.task = call.task = asyncio.create_task(self._consume(run, handle), context=Context())
        return run

    async def _consume(self, run: Run, handle: Handler) -> None:
        call = run.call
        current_call.set(call)
        sharing.set(run.part)
        self._calls.add(call)
        try:
            await handle(call)
            if call.cancellation is not None:  # swallowed by the handler, whose work was not finished for that
                run.error = self._failure(call, asyncio.CancelledError())
        except (LeaseLost, BrokerUnavailable) as lost:
            run.error = Unavailable(str(lost))
        except BaseException as raised:
            run.error = self._failure(call, raised)
        finally:
            self._calls.discard(call)
            call.end(run.error)

    async def _settle(self, runs: Sequence[Run]) -> bool:
        """Tell the broker what became of events, in order; False if they belong to another member now."""
        done = [run for run in runs if run.done_with]
        if done and not await self._to_broker(done, lambda: self._acknowledge(done)):
            return False
        for run in runs:
            if not run.done_with and not await self._to_broker([run], partial(self._give_back, run)):
                return False
        return True

    async def _to_broker(self, runs: Sequence[Run], tell: Callable[[], Awaitable[None]]) -> bool:
        failures = 0
        while True:
            try:
                await tell()
                return True
            except LeaseLost as lost:
                self._failed.difference_update(run.delivery.envelope.id for run in runs)
                log.info("%s: %s", runs[0].call.operation, lost)
                return False
            except BrokerUnavailable as lost:
                if self._loop is None:  # it comes again once the lease is over
                    log.warning("event %s was not settled: %s", runs[0].delivery.envelope.id, lost)
                    return False
                failures += 1
                await asyncio.sleep(_pause(failures))

    async def _acknowledge(self, runs: Sequence[Run]) -> None:
        self._pauses = 0
        self._failed.difference_update(run.delivery.envelope.id for run in runs)
        if len(runs) > 1 and self._subscription is not None:
            await self._subscription.settle([run.delivery for run in runs])
        else:
            for run in runs:
                await run.delivery.ack()

    async def _give_back(self, run: Run) -> None:
        if run.call.cancellation not in (None, Cancellation.DEADLINE):
            await run.delivery.release()
        elif not run.arrived.attempts:
            if not self._pauses or len(self._running) <= 1:  # those in flight when it began are one failure
                self._pauses += 1
            await run.delivery.release()
        else:
            self._pauses = 0
            self._failed.add(run.delivery.envelope.id)
            await run.delivery.nack(run.arrived.retry_in)


def _pause(failures: int) -> float:
    most = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 20))
    return random.uniform(most / 2, most)  # noqa: S311 - jitter, not a secret


def _metadata(envelope: Envelope) -> Metadata:
    """Return the call's metadata: trace and request id where they are looked for, the event's attributes as `ce-…`."""
    raw = [(f"ce-{name}".encode(), _printable(value)) for name, value in to_attributes(envelope).items()]
    if envelope.traceparent:
        raw.append((b"traceparent", _printable(envelope.traceparent)))
    if envelope.request_id:
        raw.append((b"x-request-id", _printable(envelope.request_id)))
    return Metadata.from_raw(raw)


def _printable(value: str) -> bytes:
    return (value if value.isascii() and value.isprintable() else ascii(value)).encode()
