"""The dead letters on RabbitMQ: one queue, read by one reader at a time, who keeps it open between questions."""

import asyncio
import hashlib
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from interlock.events.broker import UNREADABLE, BrokerUnavailable, DeadLetter
from interlock.events.brokers.rabbitmq_topology import Topology
from interlock.events.envelope import Envelope, MalformedEnvelope, from_json, to_json
from interlock.stamps import uuid7

if TYPE_CHECKING:
    from interlock.events.brokers.rabbitmq import RabbitBroker

_LETTER, _MARKER = "dead-letter", "marker"
_HEADER = "interlock-"

_MOST = 65_535
"""The most letters that are read; those behind them appear once some are gone."""

_IDLE = 1.0
"""Seconds after the last question for which the queue stays with this reader."""

_PATIENCE = 30.0
"""Seconds for which another reader is waited for."""


class Letters:
    """Reads and removes dead letters; made by the broker."""

    def __init__(self, broker: "RabbitBroker") -> None:
        self._broker = broker
        self._channel: AbstractChannel | None = None
        self._found: dict[str, tuple[DeadLetter, list[AbstractIncomingMessage]]] = {}
        self._markers: dict[str, asyncio.Event] = {}
        self._lock = asyncio.Lock()
        self._asked = 0.0
        self._closer: asyncio.Task[None] | None = None

    async def all(self) -> dict[str, DeadLetter]:
        """Return every letter by its id."""
        async with self._lock:
            await self._read()
            return {id_: letter for id_, (letter, _) in self._found.items()}

    async def one(self, letter_id: str) -> DeadLetter | None:
        """Return the letter of that id."""
        async with self._lock:
            await self._find(letter_id)
            return self._found[letter_id][0] if letter_id in self._found else None

    async def remove(self, letter_id: str) -> bool:
        """Remove a letter for good; False if there is none."""
        async with self._lock:
            await self._find(letter_id)
            _, messages = self._found.pop(letter_id, (None, []))
            for message in messages:
                await message.ack()
            if messages:
                await self._mark()  # behind the acknowledgements
            return bool(messages)

    async def close(self) -> None:
        """Let another reader in."""
        if self._closer is not None:
            self._closer.cancel()
            await asyncio.gather(self._closer, return_exceptions=True)
            self._closer = None
        async with self._lock:
            await self._let_go()

    async def _find(self, letter_id: str) -> None:
        """Read, unless the letter is here: as long as the queue is this reader's, nobody else removes it."""
        if self._channel is None or self._channel.is_closed or letter_id not in self._found:
            await self._read()

    async def _read(self) -> None:
        """Have everything that was in the queue when asked."""
        if self._channel is not None and self._channel.is_closed:
            await self._let_go()
        if self._channel is None:
            self._channel = channel = await self._broker.open_channel()
            await channel.set_qos(prefetch_count=_MOST)
            queue = await channel.get_queue(self._broker.topology.dead, ensure=False)
            await queue.consume(self._receive)
        if self._closer is None or self._closer.done():
            self._closer = asyncio.create_task(self._close_when_idle(), name="reader of dead letters")
        await self._mark()

    async def _mark(self) -> None:
        assert self._channel is not None  # noqa: S101 - opened by the caller
        marker = uuid7()
        seen = self._markers[marker] = asyncio.Event()
        message = Message(b"", type=_MARKER, message_id=marker, expiration=_PATIENCE)
        try:
            await self._channel.default_exchange.publish(message, self._broker.topology.dead)
            async with asyncio.timeout(_PATIENCE):
                await seen.wait()
        except TimeoutError:
            await self._let_go()
            raise BrokerUnavailable("the dead letters are with another reader; try again") from None
        finally:
            self._markers.pop(marker, None)
            self._asked = time.monotonic()

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        if message.type == _MARKER:
            if (seen := self._markers.get(message.message_id or "")) is not None:
                seen.set()
                await message.ack()
            return  # that of another reader, which waits for it
        letter = read(message, self._broker.topology)
        known, messages = self._found.get(letter.id, (letter, []))
        newest = letter if letter.at >= known.at else known
        self._found[letter.id] = (newest, [*messages, message])

    async def _close_when_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE)
            async with self._lock:
                if time.monotonic() - self._asked >= _IDLE:
                    await self._let_go()
                    return

    async def _let_go(self) -> None:
        channel, self._channel, self._found = self._channel, None, {}
        if channel is not None:
            with suppress(Exception):  # it is closed then, which was wanted
                await channel.close()


def written(letter: DeadLetter) -> Message:
    """Return a dead letter as a message: the event, with what is known of its end as headers."""
    headers: dict[str, Any] = {
        _HEADER + "group": letter.group,
        _HEADER + "code": letter.code,
        _HEADER + "cause": letter.cause,
        _HEADER + "attempts": letter.attempts,
        _HEADER + "at": letter.at.isoformat(),
        _HEADER + "traceparent": letter.traceparent,
    }
    return Message(
        to_json(letter.envelope),
        type=_LETTER,
        headers=headers,
        content_type="application/cloudevents+json",
        delivery_mode=DeliveryMode.PERSISTENT,
    )


def read(message: AbstractIncomingMessage, topology: Topology) -> DeadLetter:
    """Return the dead letter of a message: one that we wrote, or an event that the server gave up itself."""
    headers = message.headers
    by_server = _HEADER + "group" not in headers
    group, count = _ended(headers, topology) if by_server else (str(headers[_HEADER + "group"]), 0)
    try:
        envelope = from_json(message.body)
        if not by_server:
            return DeadLetter(
                group=group,
                envelope=envelope,
                code=str(headers[_HEADER + "code"]),
                cause=str(headers[_HEADER + "cause"]),
                attempts=int(headers[_HEADER + "attempts"]),  # type: ignore[arg-type]  # as we wrote it
                at=datetime.fromisoformat(str(headers[_HEADER + "at"])),
                traceparent=str(headers.get(_HEADER + "traceparent", "")),
            )
        code, cause = "INTERNAL", f"RabbitMQ gave it up ({headers.get('x-first-death-reason', 'unknown')!s})"
    except (MalformedEnvelope, KeyError, ValueError, TypeError) as wrong:
        envelope = _unreadable(message)
        code, cause = UNREADABLE, f"it can't be read: {wrong}"
    return DeadLetter(
        group=group,
        envelope=envelope,
        code=code,
        cause=cause,
        attempts=count,
        at=message.timestamp or envelope.time,
        traceparent=envelope.traceparent,
    )


def _ended(headers: Any, topology: Topology) -> tuple[str, int]:
    """Return the group in whose queue the server gave an event up, and how often it had been handed out."""
    queue = str(headers.get("x-first-death-queue", ""))
    delivered = headers.get("x-delivery-count", 0)
    return topology.group_of(queue) or "unknown", delivered if isinstance(delivered, int) else 0


def _unreadable(message: AbstractIncomingMessage) -> Envelope:
    name = message.message_id or hashlib.sha256(message.body).hexdigest()[:32]
    when = message.timestamp or datetime(1970, 1, 1, tzinfo=UTC)
    return Envelope(id=name, source="unknown", type="unknown", partition_key=name, time=when, data=message.body)
