"""Events in tests: a broker in memory, what was published, consumed and given up, and when all is settled."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from protobuf import Message

from interlock.app import App
from interlock.contract.gen.interlock.v1.options_pb import EventOptions, ext_event
from interlock.events import dead_letters
from interlock.events.broker import DeadLetter
from interlock.events.brokers.memory import MemoryBroker
from interlock.events.envelope import Envelope
from interlock.events.publisher import SCHEMA
from interlock.stamps import uuid7

M = TypeVar("M", bound="Message[Any]")
T = TypeVar("T")

HURRY = 1000.0
"""How much faster than ours the clock of a hurried broker goes, so that retries do not keep a test waiting."""

_SETTLED_LOOKS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(Generic[M]):
    """An event that the service `group` gave up: its message, the code and cause, and after how many attempts."""

    message: M
    group: str
    code: str
    cause: str
    attempts: int
    letter: DeadLetter


class Events:
    """What happens to events on one broker in memory: `App(…, broker=events.broker)`.

    Retries wait a thousandth of their time, unless another `broker` is given. Made in the event loop of the test.
    """

    def __init__(self, broker: MemoryBroker | None = None) -> None:
        self.broker = broker if broker is not None else MemoryBroker(clock=lambda: time.monotonic() * HURRY)

    async def publish(self, message: Message[Any], *, source: str = "test") -> str:
        """Publish an event as another service would, and return its id; ValueError if the message is none."""
        options = _options(type(message))
        key = next(each.local_name for each in message.desc().fields if each.name == options.key)
        value = str(getattr(message, key))
        if not value:
            raise ValueError(f"the event {options.type} has no {options.key}, which is its key")
        envelope = Envelope(
            id=uuid7(),
            source=source,
            type=options.type,
            partition_key=value,
            subject=value,
            time=datetime.now(UTC),
            data_schema=SCHEMA + message.desc().type_name,
            data=message.to_binary(),
        )
        await self.broker.publish([envelope])
        return envelope.id

    def published(self, kind: type[M], /, **fields: Any) -> list[M]:
        """Return the events of a type that were published, in order, those whose fields have these values."""
        return [each for each in _messages(kind, self.broker.stored()) if _has(each, fields)]

    def consumed(self, kind: type[M], /, **fields: Any) -> list[M]:
        """Return the events of a type that were processed, once for each service that did."""
        letters = {each.id for each in self.broker.letters()}
        done = [envelope for group, envelope in self.broker.settled() if f"{group}/{envelope.id}" not in letters]
        return [each for each in _messages(kind, done) if _has(each, fields)]

    def failed(self, kind: type[M], /, **fields: Any) -> list[Failed[M]]:
        """Return the events of a type that a service gave up."""
        wanted = _options(kind).type
        found = [
            Failed(
                message=kind.from_binary(each.envelope.data),
                group=each.group,
                code=each.code,
                cause=each.cause,
                attempts=each.attempts,
                letter=each,
            )
            for each in self.broker.letters()
            if each.envelope.type == wanted
        ]
        return [each for each in found if _has(each.message, fields)]

    def assert_published(self, kind: type[M], /, **fields: Any) -> M:
        """Return the one event of a type with these values that was published; else AssertionError tells what was."""
        return _one("published", kind, fields, self.published(kind, **fields), self._told())

    def assert_consumed(self, kind: type[M], /, **fields: Any) -> M:
        """Return the one event of a type with these values that was processed; else AssertionError tells what was."""
        return _one("consumed", kind, fields, self.consumed(kind, **fields), self._told())

    def assert_failed(self, kind: type[M], /, **fields: Any) -> Failed[M]:
        """Return the one event of a type with these values that was given up; else AssertionError tells what was."""
        return _one("failed", kind, fields, self.failed(kind, **fields), self._told())

    async def replay(self, failed: Failed[Any]) -> None:
        """Send an event that was given up to its service again."""
        await dead_letters.replay(self.broker, failed.letter.id)

    async def settled(self, *apps: App, timeout: float = 10.0) -> None:
        """Wait until every outbox of `apps` is empty, and every service is done with every event.

        Done means processed or given up; what that published in turn is waited for too. TimeoutError after `timeout`
        seconds tells what was still on its way.
        """
        quiet = 0
        try:
            async with asyncio.timeout(timeout):
                while quiet < _SETTLED_LOOKS:
                    await asyncio.sleep(0.01)
                    quiet = 0 if await self._outboxes(apps) or self.broker.waiting() else quiet + 1
        except TimeoutError:
            left = [f"{each.type} {each.id} for {group}" for group, each in self.broker.waiting()]
            waits = ", ".join(left) or "the outbox"
            raise TimeoutError(f"events were not settled within {timeout:g} s: {waits}") from None

    async def _outboxes(self, apps: Iterable[App]) -> int:
        from interlock.data import outbox  # noqa: PLC0415 - with SQLAlchemy, where there is a database

        return sum([await outbox.waiting(each.database) for each in apps if each.database is not None])

    def _told(self) -> str:
        stored = [f"  published {each.type} ({each.partition_key})" for each in self.broker.stored()]
        letters = [f"  given up {each.envelope.type} by {each.group}: {each.cause}" for each in self.broker.letters()]
        return "\n".join([*stored, *letters]) or "  nothing was published"


def _options(kind: type[Message[Any]]) -> EventOptions:
    options = kind.desc().proto.options
    if options is None or ext_event not in options:
        raise ValueError(f"{kind.desc().type_name} is no event: it has no option (interlock.v1.event)")
    found: EventOptions = options[ext_event]
    return found


def _messages(kind: type[M], envelopes: Iterable[Envelope]) -> Iterator[M]:
    wanted = _options(kind).type
    return (kind.from_binary(each.data) for each in envelopes if each.type == wanted)


def _has(message: Message[Any], fields: dict[str, Any]) -> bool:
    return all(getattr(message, name) == value for name, value in fields.items())


def _one(what: str, kind: type[Message[Any]], fields: dict[str, Any], found: Sequence[T], told: str) -> T:
    if len(found) == 1:
        return found[0]
    given = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    raise AssertionError(f"{len(found)} events {kind.__name__}({given}) were {what}, not one:\n{told}")
