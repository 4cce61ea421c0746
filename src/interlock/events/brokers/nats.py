"""NATS JetStream as the broker: a subject per type and partition, a pull consumer per group and partition.

JetStream stores, redelivers and leaves out ids it knows (`Nats-Msg-Id`, two minutes). What it lacks is told in streams
beside the events': who holds which partition (its number in the stream is the fencing number), attempts that are not
redeliveries, and the dead letters.
"""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from interlock.events.broker import PARTITIONS, BrokerUnavailable, DeadLetter, Features, in_waves
from interlock.events.envelope import (
    EVENT_BYTES,
    Envelope,
    EventTooLarge,
    MalformedEnvelope,
    from_headers,
    to_headers,
)

try:
    from nats.aio.client import Client
    from nats.errors import Error, MaxPayloadError
    from nats.js import JetStreamContext
    from nats.js.errors import NotFoundError
except ImportError as missing:
    raise ImportError("the broker nats:// needs its client: pip install interlock[nats]") from missing

from interlock.events.brokers.nats_member import Member
from interlock.events.brokers.nats_requests import Request, Requests
from interlock.events.brokers.nats_streams import Streams, durable

_LETTER = "interlock-"

_AT_ONCE = 500
"""Events that are with the server at a time, unconfirmed."""


class NatsBroker:
    """Fills the port on a NATS server with JetStream; reconnects by itself. Belongs to one event loop.

    A server before 2.10 sends each group the events of all types, of which it drops those it did not ask for; it may
    deliver again what a member settled out of turn before it left, which an inbox bears.

    `url` is that of a server (`nats://user:password@host:4222`); `?stream=NAME` sets what its streams and subjects
    begin with (`interlock`). A member that dies loses its partitions after `lease` seconds; an answer that takes longer
    than `timeout` seconds means that the broker is away.
    """

    features = Features(durable=True, shared=True, networked=True, event_bytes=EVENT_BYTES)

    def __init__(self, url: str, *, lease: float = 5.0, timeout: float = 5.0) -> None:
        parts = urlsplit(url)
        name = parse_qs(parts.query).get("stream", ["interlock"])[0]
        self.streams = Streams(name, lease)
        self.lease = lease
        self.id = ""
        self.filters = False
        self._url = urlunsplit(parts._replace(query=""))
        self._shown = f"nats://{parts.hostname}:{parts.port or 4222}"
        self._timeout = timeout
        self._client: Client | None = None
        self._js: JetStreamContext | None = None
        self._requests: Requests | None = None
        self._members: set[Member] = set()

    async def start(self) -> None:
        """Connect, and make the streams that are missing."""
        client = Client()
        try:
            async with asyncio.timeout(self._timeout):
                with self.reaching():
                    await client.connect(
                        servers=[self._url],
                        name="interlock",
                        connect_timeout=2,
                        reconnect_time_wait=1,
                        max_reconnect_attempts=-1,
                        reconnected_cb=self._reconnected,
                        error_cb=_quiet,
                        disconnected_cb=None,
                    )
                    self._client = client
                    self.filters = (client.connected_server_version.major, client.connected_server_version.minor) >= (
                        2,
                        10,
                    )
                    self._requests = Requests(client, self._timeout)
                    await self._requests.start()
                    self._js = client.jetstream(timeout=self._timeout)
                    self.id = await self.streams.make(self._js)
        except BaseException as failed:
            self._client = self._js = None
            await client.close()
            if isinstance(failed, TimeoutError):
                raise self._away("it does not answer") from failed
            raise

    async def stop(self) -> None:
        """Close what is still subscribed, and the connection."""
        for member in tuple(self._members):
            try:
                await member.close()
            except BrokerUnavailable:
                continue  # its leases run out
        if self._client is not None:
            client, self._client, self._js = self._client, None, None
            await client.close()

    async def ping(self) -> None:
        """Ask the server for the stream of events."""
        with self.reaching():
            await self.js.stream_info(self.streams.events)

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        """Store events in waves: side by side those of different keys, one behind the other those of one key."""
        with self.reaching():
            for wave in in_waves(envelopes):
                for start in range(0, len(wave), _AT_ONCE):
                    await self.requests.store([self._message(each, group) for each in wave[start : start + _AT_ONCE]])

    async def subscribe(self, group: str, types: Collection[str]) -> Member:
        """Join `group`: take what is free of its partitions now, and its share as others give theirs up."""
        member = Member(self, group, tuple(types))
        with self.reaching():
            await member.open()
        self._members.add(member)
        return member

    async def lag(self, group: str, types: Collection[str]) -> int:
        """Count what `group` has not settled; of a group that is new, all there is."""
        with self.reaching():
            asked = (self._lag(group, partition, types) for partition in range(PARTITIONS))
            return sum(await asyncio.gather(*asked))

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter: a message like the event's, with what is known of its end as headers."""
        headers = to_headers(letter.envelope) | {
            _LETTER + "group": quote(letter.group),
            _LETTER + "code": letter.code,
            _LETTER + "cause": quote(letter.cause, safe=" :,.;()'/"),
            _LETTER + "attempts": str(letter.attempts),
            _LETTER + "at": letter.at.isoformat(),
            _LETTER + "traceparent": letter.traceparent,
        }
        with self.reaching():
            await self.js.publish(self.streams.letter(letter.id), letter.envelope.data, headers=headers)

    async def dead_letters(self, group: str = "", *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters by id."""
        subjects = self.streams.letters(group)
        with self.reaching():
            info = await self.js.stream_info(self.streams.dead, subjects_filter=subjects)
            ids = sorted(self.streams.letter_id(each) for each in info.state.subjects or ())
            wanted = [each for each in ids if each > after][:limit]
            found = await asyncio.gather(*(self.dead_letter(each) for each in wanted))
        return [each for each in found if each is not None]

    async def count_dead_letters(self, group: str) -> int:
        """Count dead letters: each is a subject of its own."""
        with self.reaching():
            info = await self.js.stream_info(self.streams.dead, subjects_filter=self.streams.letters(group))
        return len(info.state.subjects or ())

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter."""
        found = await self._letter(letter_id)
        return _letter(found.headers or {}, found.data or b"") if found is not None else None

    async def remove_dead_letter(self, letter_id: str) -> bool:
        """Remove one dead letter."""
        found = await self._letter(letter_id)
        if found is None:
            return False
        with self.reaching():
            return await self.js.delete_msg(self.streams.dead, found.seq)

    # --- for members --------------------------------------------------------------------------------------------------

    @property
    def js(self) -> JetStreamContext:
        """The JetStream context; BrokerUnavailable before `start` and after `stop`."""
        if self._js is None:
            raise self._away("it is not started")
        return self._js

    @property
    def client(self) -> Client:
        """The connection; BrokerUnavailable before `start` and after `stop`."""
        if self._client is None:
            raise self._away("it is not started")
        return self._client

    @property
    def requests(self) -> Requests:
        """Requests under way; BrokerUnavailable before `start` and after `stop`."""
        if self._requests is None or self._client is None:
            raise self._away("it is not started")
        return self._requests

    def left(self, member: Member) -> None:
        """Note that a member has closed."""
        self._members.discard(member)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn whatever the client raises within the block into BrokerUnavailable."""
        try:
            yield
        except MaxPayloadError as large:
            raise EventTooLarge("the event is larger than the NATS server takes (max_payload)") from large
        except (Error, TimeoutError, OSError) as failed:
            if isinstance(failed, BrokerUnavailable):
                raise
            raise self._away(str(failed) or type(failed).__name__) from failed

    def _message(self, envelope: Envelope, group: str) -> Request:
        known_as = f"{envelope.id}/{group}/{envelope.replays}" if group else envelope.id
        headers = to_headers(envelope) | {"Nats-Msg-Id": quote(known_as)}
        return self.streams.event(envelope, group), envelope.data, headers

    async def _lag(self, group: str, partition: int, types: Collection[str]) -> int:
        try:
            info = await self.js.consumer_info(self.streams.events, durable(group, partition))
        except NotFoundError:
            found = [
                await self.js.stream_info(self.streams.events, subjects_filter=each)
                for each in self.streams.consumed(group, partition, types)
            ]
            return sum(count for each in found for count in (each.state.subjects or {}).values())
        return (info.num_pending or 0) + (info.num_ack_pending or 0)

    async def _letter(self, letter_id: str) -> Any:
        with self.reaching():
            try:
                return await self.js.get_last_msg(self.streams.dead, self.streams.letter(letter_id))
            except NotFoundError:
                return None

    async def _reconnected(self) -> None:
        for member in self._members:
            member.reconnected()

    def _away(self, why: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"NATS at {self._shown} can't be used: {why}")


async def _quiet(_error: Exception) -> None:
    """Leave it to those who call: the client tells each lost connection, then reconnects."""


def _letter(headers: dict[str, str], data: bytes) -> DeadLetter:
    try:
        return DeadLetter(
            group=unquote(headers[_LETTER + "group"]),
            envelope=from_headers(headers, data),
            code=headers[_LETTER + "code"],
            cause=unquote(headers[_LETTER + "cause"]),
            attempts=int(headers[_LETTER + "attempts"]),
            at=datetime.fromisoformat(headers[_LETTER + "at"]),
            traceparent=headers.get(_LETTER + "traceparent", ""),
        )
    except (KeyError, ValueError) as wrong:
        raise MalformedEnvelope(f"a dead letter can't be read: {wrong}") from wrong
