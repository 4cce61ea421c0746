"""How events, leases and dead letters are named on a NATS server, and the streams that hold them."""

import base64
from collections.abc import Collection

from nats.js import JetStreamContext
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from interlock.events.broker import partition_of
from interlock.events.envelope import Envelope

_WEEK = 7 * 86400.0
_KNOWN = 120.0
"""Seconds for which the server knows the ids of events."""


class Streams:
    """The streams of one platform, all of whose names and subjects begin with `name`; `lease` is in seconds."""

    def __init__(self, name: str, lease: float) -> None:
        if token(name) != name:
            raise ValueError(f"{name!r} can't name a stream: letters, digits, '_' and '-' only")
        self.events = name
        self.leases = f"{name}-leases"
        self.tries = f"{name}-tries"
        self.dead = f"{name}-dead"
        self._lease = lease

    async def make(self, js: JetStreamContext) -> str:
        """Make the streams that are missing; return what names the leases' stream, which fencing numbers belong to."""
        for name, config in self._configs().items():
            try:
                await js.stream_info(name)
            except NotFoundError:
                try:
                    await js.add_stream(config)
                except BadRequestError:  # another process was quicker
                    await js.stream_info(name)
        made = (await js.stream_info(self.leases)).created
        return f"{self.events}@{made.timestamp() if made is not None else 0:.3f}"

    def _configs(self) -> dict[str, StreamConfig]:
        def stream(name: str, *subjects: str, age: float, each: int) -> StreamConfig:
            return StreamConfig(
                name=name,
                subjects=[f"{self.events}.{subject}" for subject in subjects],
                retention=RetentionPolicy.LIMITS,
                storage=StorageType.FILE,
                max_age=age,
                max_msgs_per_subject=each,
                duplicate_window=min(_KNOWN, age) if age else _KNOWN,
                allow_direct=False,  # a direct answer may be an old one
            )

        return {
            self.events: stream(self.events, "at.>", age=_WEEK, each=-1),
            self.leases: stream(self.leases, "lease.>", "member.>", age=self._lease, each=1),
            self.tries: stream(self.tries, "tries.>", age=_WEEK, each=1),
            self.dead: stream(self.dead, "dead.>", age=0, each=1),
        }

    def event(self, envelope: Envelope, group: str = "") -> str:
        """Return the subject of an event, or of one for `group` alone."""
        partition = partition_of(envelope.partition_key)
        kind = f"group.{token(group)}" if group else f"event.{envelope.type}"
        return f"{self.events}.at.{partition:02}.{kind}"

    def consumed(self, group: str, partition: int, types: Collection[str]) -> list[str]:
        """Return the subjects that a group consumes in one partition."""
        kinds = [*(f"event.{each}" for each in types), f"group.{token(group)}"]
        return [f"{self.events}.at.{partition:02}.{kind}" for kind in kinds]

    def everything(self, partition: int) -> str:
        """Return the subjects of one partition, whatever its type or group."""
        return f"{self.events}.at.{partition:02}.>"

    def partition(self, subject: str) -> int:
        """Return the partition of an event's subject."""
        return int(subject[len(self.events) + 4 : len(self.events) + 6])

    def lease(self, group: str, partition: int) -> str:
        """Return the subject whose one message says who holds a partition."""
        return f"{self.events}.lease.{token(group)}.{partition:02}"

    def member(self, group: str, owner: str) -> str:
        """Return the subject whose one message says that a member lives."""
        return f"{self.events}.member.{token(group)}.{owner}"

    def tried(self, group: str, partition: int, number: int) -> str:
        """Return the subject whose one message says how often an event was tried."""
        return f"{self.events}.tries.{durable(group, partition)}.{number}"

    def letter(self, letter_id: str) -> str:
        """Return the subject of a dead letter."""
        group, _, event = letter_id.rpartition("/")
        return f"{self.events}.dead.{_encoded(group)}.{_encoded(event)}"

    def letters(self, group: str) -> str:
        """Return the subjects of a group's dead letters, or of all."""
        return f"{self.events}.dead.{_encoded(group) if group else '*'}.*"

    def letter_id(self, subject: str) -> str:
        """Return the id of the dead letter at a subject."""
        group, event = subject.split(".")[-2:]
        return f"{_decoded(group)}/{_decoded(event)}"


def durable(group: str, partition: int) -> str:
    """Return the name of the consumer of a group and partition."""
    return f"{token(group)}-{partition:02}"


def token(name: str) -> str:
    """Return `name` as one token of a subject: what can't stand there becomes `_`, a dot `-`."""
    allowed = (each if each.isascii() and (each.isalnum() or each in "-_") else "_" for each in name.replace(".", "-"))
    return "".join(allowed)


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
