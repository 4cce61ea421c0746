"""The port that every broker fills: events go in by key, and come out to groups, partition by partition, in order.

An event's key decides its partition. A group's members share the partitions; each is leased to one member at a time,
with a fencing number that grows with every change of hands. Events of one key reach a group one at a time and in order:
the next comes once the one before is acknowledged. One that failed holds back its own key only.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from interlock.events.envelope import Envelope
from interlock.url import shown

PARTITIONS = 16
"""How many partitions each type of event has, on every broker."""


UNREADABLE = "UNREADABLE"
"""The code of a dead letter that holds what is no event of ours."""


class BrokerUnavailable(ConnectionError):
    """The broker does not answer, or did not take what it was given; what was published may be published again."""


class TopologyMismatch(BrokerUnavailable):
    """What stands at the broker under our names is not what is needed; the message says what differs and what to do."""


class LeaseLost(RuntimeError):
    """The partition belongs to another member now, which gets this event again; nothing was settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """What a broker can do beyond the port: outlive its process, be shared by several processes, or by several hosts.

    `event_bytes` is the largest event it takes, with its envelope. `knows_ids`: an id published again is left out;
    elsewhere it comes twice, which an inbox bears. `keeps_history`: a group that is new gets what was published before
    it joined for the first time; elsewhere it gets what comes from then on.
    """

    durable: bool
    shared: bool
    networked: bool
    event_bytes: int
    knows_ids: bool = True
    keeps_history: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a group gave up: the event, why (`code`, `cause`), after how many attempts, when.

    `traceparent` is that of the last attempt, so that its trace is found. A group holds one letter an event.
    """

    group: str
    envelope: Envelope
    code: str
    cause: str
    attempts: int
    at: datetime
    traceparent: str = ""

    @property
    def id(self) -> str:
        """Names the letter on its broker: the group and the event's id."""
        return f"{self.group}/{self.envelope.id}"


class Delivery(Protocol):
    """One event handed to one member of a group; settled by exactly one of `ack`, `nack` and `release`.

    Each raises LeaseLost if the partition has changed hands, and BrokerUnavailable.
    """

    @property
    def envelope(self) -> Envelope:
        """The event."""
        ...

    @property
    def lease(self) -> str:
        """Names the lease of its partition, on this broker and no other."""
        ...

    @property
    def fence(self) -> int:
        """The fencing number of the lease: a later holder has a larger one."""
        ...

    @property
    def tried(self) -> bool:
        """Whether an attempt at it may have begun before, by whomever; told without asking the broker."""
        ...

    async def attempt(self) -> int:
        """Record that an attempt begins, durably, and return its number, from 1."""
        ...

    async def ack(self) -> None:
        """Settle it: the group never gets it again."""
        ...

    async def nack(self, delay: float) -> None:
        """Have it delivered again in `delay` seconds; later events of its key wait for it, other keys go on."""
        ...

    async def release(self) -> None:
        """Give it back as if it had never been delivered: the attempt begun last is not counted."""
        ...


class Subscription(Protocol):
    """A member of a group; its partitions are leased to it until it closes, or dies."""

    async def next(self) -> Delivery:
        """Wait for the next event of a partition that has none out; BrokerUnavailable if the broker is lost."""
        ...

    def more(self, after: Delivery, most: int) -> "Sequence[Delivery]":
        """Take up to `most` events of the partition of `after`, which is out, that wait behind it, in order.

        Only what is at hand already; none if `after` came from another subscription, or its lease is lost.
        """
        ...

    async def settle(self, deliveries: "Sequence[Delivery]") -> None:
        """Acknowledge events of one partition together; if it raises what `ack` raises, some may be settled."""
        ...

    async def close(self) -> None:
        """Leave the group at once; what is not settled goes to another member."""
        ...


class Broker(Protocol):
    """Where events go to and come from. Made without I/O; `start` before use, `stop` after."""

    features: Features

    async def start(self) -> None:
        """Open or connect; BrokerUnavailable says what to do."""
        ...

    async def stop(self) -> None:
        """Let go of everything."""
        ...

    async def ping(self) -> None:
        """Return if the broker answers; BrokerUnavailable else. For readiness checks."""
        ...

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        """Store events in order, durably once this returns; one whose id was stored recently is left out (`knows_ids`).

        With `group`, they reach that group only, whether or not it had them before. BrokerUnavailable leaves open
        which of them were stored: publish them again.
        """
        ...

    async def subscribe(self, group: str, types: Collection[str]) -> Subscription:
        """Join `group` for events of `types`; a new group begins with the oldest event there (`keeps_history`)."""
        ...

    async def lag(self, group: str, types: Collection[str]) -> int:
        """Return how many events wait for `group`, those delivered and not settled included."""
        ...

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter until it is removed; one with its id is replaced."""
        ...

    async def dead_letters(self, group: str = "", *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return up to `limit` dead letters, of `group` or of all, by id, those behind the id `after`."""
        ...

    async def count_dead_letters(self, group: str) -> int:
        """Return how many dead letters of `group` are kept, without reading them where that can be."""
        ...

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return the dead letter of that id, or None."""
        ...

    async def remove_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good; False if there is none."""
        ...


def partition_of(key: str) -> int:
    """Return the partition of a key, the same in every process and release (BLAKE2b of its UTF-8, modulo 16)."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) % PARTITIONS


def fair_share(members: int) -> int:
    """Return how many partitions each of `members` may hold so that all are held."""
    return -(-PARTITIONS // max(1, members))


def open_broker(url: str) -> Broker:
    """Return the broker for `url`, not yet started: `embedded:PATH`, `nats://…`, `amqp://…`, or `memory:`.

    ValueError for a URL of no known broker, ImportError naming the extra for one that is not installed.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "memory":
            from interlock.events.brokers.memory import MemoryBroker  # noqa: PLC0415 - a process needs one of them

            return MemoryBroker()
        case "embedded" if parts.path:
            from interlock.events.brokers.embedded import EmbeddedBroker  # noqa: PLC0415

            return EmbeddedBroker(parts.path)
        case "nats" | "tls":
            from interlock.events.brokers.nats import NatsBroker  # noqa: PLC0415 - an extra

            return NatsBroker(url)
        case "amqp" | "amqps":
            from interlock.events.brokers.rabbitmq import RabbitBroker  # noqa: PLC0415 - an extra

            return RabbitBroker(url)
    raise ValueError(
        f"no broker for {shown(url)!r}; write embedded:var/broker.db, nats://localhost:4222, "
        "amqp://localhost:5672 or memory:"
    )


def in_waves(envelopes: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    """Yield events in waves that may be sent side by side: one event of each key at most, each key in its order."""
    queues: dict[str, list[Envelope]] = {}
    for each in envelopes:
        queues.setdefault(each.partition_key, []).append(each)
    for number in range(max(map(len, queues.values()), default=0)):
        yield [queue[number] for queue in queues.values() if number < len(queue)]
