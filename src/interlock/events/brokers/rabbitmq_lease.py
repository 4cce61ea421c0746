"""The lease of one partition on RabbitMQ: a queue whose only active consumer holds it, and whose message is its state.

The state is the fencing number and the attempts that must outlive the holder. It is changed by writing a new message
and acknowledging the old; should both be found, the higher one counts. A message of another kind is a question, by one
who waits for its turn: it wakes the holder, and comes back once everything in front of it has been seen.
"""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from interlock.stamps import uuid7

_STATE, _QUESTION = "state", "question"

_QUESTION_LASTS = 60.0
"""Seconds after which a question is dropped, should nobody hold the lease."""


@dataclass(slots=True)
class State:
    """What is known of a partition beyond its queue: the fencing number, and attempts by event."""

    fence: int = 0
    version: int = 0
    tried: dict[str, int] = field(default_factory=dict)


class Lease:
    """One member's claim to a partition; `asked` is called while it holds and another waits. Ends with its channel."""

    def __init__(self, channel: AbstractChannel, queue: str, *, asked: Callable[[], None]) -> None:
        self.state = State()
        self.held = False
        self._channel = channel
        self._queue = queue
        self._asked = asked
        self._arrived = asyncio.Event()
        self._messages: list[tuple[AbstractIncomingMessage, State | None]] = []
        self._writing = asyncio.Lock()

    async def wait(self) -> None:
        """Stand in line, and return when it is this one's turn: whoever held the lease is gone."""
        queue = await self._channel.get_queue(self._queue, ensure=False)
        await queue.consume(self._receive)
        await self._publish(_QUESTION, uuid7(), b"{}")
        await self._arrived.wait()

    async def take(self) -> None:
        """Learn the state that the last holder left, and write the next fencing number."""
        barrier = uuid7()
        await self._publish(_QUESTION, barrier, b"{}")
        while not any(message.message_id == barrier for message, _ in self._messages):
            self._arrived.clear()
            await self._arrived.wait()
        found = [state for _, state in self._messages if state is not None]
        last = max(found, key=lambda state: (state.fence, state.version), default=State())
        # should the state be lost with its queue, the clock keeps the number growing
        self.state = State(fence=max(last.fence + 1, int(time.time() * 1000)), tried=dict(last.tried))
        await self._write()
        self.held = True
        await self._settle()

    async def write(self) -> None:
        """Make the state durable; called after changes, and now and then, so that no message is held for too long."""
        async with self._writing:
            self.state.version += 1
            await self._write()

    async def _write(self) -> None:
        state = self.state
        body = {"fence": state.fence, "version": state.version, "tried": state.tried}
        await self._publish(_STATE, uuid7(), json.dumps(body).encode())

    async def _publish(self, kind: str, message_id: str, body: bytes) -> None:
        message = Message(
            body,
            type=kind,
            message_id=message_id,
            delivery_mode=DeliveryMode.PERSISTENT,
            expiration=_QUESTION_LASTS if kind == _QUESTION else None,
        )
        await self._channel.default_exchange.publish(message, self._queue)

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        state = _read(message)
        self._messages.append((message, state))
        self._arrived.set()
        if self.held:
            if state is None:
                self._asked()
            await self._settle()

    async def _settle(self) -> None:
        """Acknowledge everything but the newest state, or all states while that one is on its way back."""
        states = [(state.fence, state.version, number) for number, (_, state) in enumerate(self._messages) if state]
        newest = max(states, default=(0, 0, -1))
        on_its_way = newest[:2] < (self.state.fence, self.state.version)
        keep = {number for *_, number in states} if on_its_way else {newest[2]}
        done = [message for number, (message, _) in enumerate(self._messages) if number not in keep]
        self._messages = [each for number, each in enumerate(self._messages) if number in keep]
        for message in done:
            with suppress(*CONNECTION_EXCEPTIONS):  # the channel is closed: the next holder sees it
                await message.ack()


def _read(message: AbstractIncomingMessage) -> State | None:
    if message.type != _STATE:
        return None
    try:
        body = json.loads(message.body)
        return State(
            fence=int(body["fence"]),
            version=int(body["version"]),
            tried={str(name): int(count) for name, count in body["tried"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
