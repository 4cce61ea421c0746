"""RabbitMQ as the broker: an exchange, and for each group a quorum queue per partition with a single active consumer.

RabbitMQ stores, confirms and redelivers in order. What it lacks is told in messages of its own: whose partition it is,
with a number that grows (a lease queue each), attempts that are not redeliveries, and the dead letters.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from interlock.events.broker import (
    PARTITIONS,
    BrokerUnavailable,
    DeadLetter,
    Features,
    TopologyMismatch,
    in_waves,
)
from interlock.events.envelope import EVENT_BYTES, Envelope, to_json

try:
    from aio_pika import DeliveryMode, Message, connect
    from aio_pika.abc import AbstractChannel, AbstractConnection
    from aio_pika.exceptions import (
        CONNECTION_EXCEPTIONS,
        AuthenticationError,
        ChannelPreconditionFailed,
        ProbableAuthenticationError,
    )
except ImportError as missing:
    raise ImportError("the broker amqp:// needs its client: pip install interlock[rabbitmq]") from missing

from interlock.events.brokers.rabbitmq_letters import Letters, written
from interlock.events.brokers.rabbitmq_member import Member
from interlock.events.brokers.rabbitmq_topology import OLDEST, Topology, ready, side_by_side

_NAME_BYTES = 255
_HEARTBEAT = "10"


class RabbitBroker:
    """Fills the port on a RabbitMQ server from 3.10, without plugins; reconnects by itself. Belongs to one event loop.

    `url` is that of a server (`amqp://user:password@host:5672/vhost`, `amqps://` for TLS); `?name=NAME` sets what its
    exchange and queues begin with (`interlock`), `heartbeat=SECONDS` when a silent connection counts as lost (10),
    `expires=SECONDS`, for tests, that the server removes what nobody used for so long. An answer that takes longer than
    `timeout` seconds means that the broker is away.

    An event goes to the groups there are: a group exists from the first time it subscribed, until its queues are
    deleted. An id published again comes again. `lag` does not see what is out with other processes.
    """

    features = Features(
        durable=True, shared=True, networked=True, event_bytes=EVENT_BYTES, knows_ids=False, keeps_history=False
    )

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        name = query.pop("name", "interlock")
        self.topology = Topology(name, expires=int(query.pop("expires", "0")))
        self.timeout = timeout
        self._url = urlunsplit(parts._replace(query=urlencode({"heartbeat": _HEARTBEAT, **query})))
        self._shown = f"{parts.scheme}://{parts.hostname}:{parts.port or (5671 if parts.scheme == 'amqps' else 5672)}"
        self.id = f"{self._shown}{parts.path or '/'}{name}"
        self._started = False
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._publishing: AbstractChannel | None = None
        self._members: set[Member] = set()
        self._letters = Letters(self)

    async def start(self) -> None:
        """Connect, and make what all groups share, or check it."""
        self._started = True
        if (client := logging.getLogger("aiormq")).level == logging.NOTSET:
            client.setLevel(logging.CRITICAL)  # it tells each failure with its traceback; we raise them
        try:
            _ = await self._outgoing()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close what is still subscribed, and the connection."""
        for member in tuple(self._members):
            with suppress(BrokerUnavailable):
                await member.close()
        await self._letters.close()
        self._started = False
        self._publishing = None
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
                async with asyncio.timeout(self.timeout):
                    await connection.close()

    async def ping(self) -> None:
        """Ask the server for the exchange."""
        async with self.channel() as channel:
            await channel.get_exchange(self.topology.exchange)

    async def publish(self, envelopes: Sequence[Envelope], *, group: str = "") -> None:
        """Store events in waves, each confirmed: side by side those of different keys."""
        for wave in in_waves(envelopes):
            channel = await self._outgoing()
            sending = (self._publish(channel, each, group) for each in wave)
            for failed in await asyncio.gather(*sending, return_exceptions=True):
                if failed is not None:
                    raise failed

    async def subscribe(self, group: str, types: Collection[str]) -> Member:
        """Join `group`: make or check its queues, then stand in line for every partition."""
        await self.make_group(group, types)
        member = Member(self, group, tuple(types))
        with self.reaching():
            await member.open()
        self._members.add(member)
        return member

    async def lag(self, group: str, types: Collection[str]) -> int:  # noqa: ARG002 - a group's queues hold its types only
        """Count what waits for `group`, and what is with its members in this process."""
        found = await self._lag(group)
        if not found:
            await asyncio.sleep(0.01)  # what was on its way between the two has arrived
            found = await self._lag(group)
        return found

    async def bury(self, letter: DeadLetter) -> None:
        """Keep a dead letter."""
        channel = await self._outgoing()
        with self.reaching():
            await channel.default_exchange.publish(written(letter), self.topology.dead, timeout=self.timeout)

    async def dead_letters(self, group: str = "", *, limit: int = 100, after: str = "") -> list[DeadLetter]:
        """Return dead letters by id."""
        with self.reaching():
            found = await self._letters.all()
        wanted = sorted(id_ for id_, each in found.items() if id_ > after and group in ("", each.group))
        return [found[id_] for id_ in wanted[:limit]]

    async def count_dead_letters(self, group: str) -> int:
        """Count dead letters; they are read, for one queue holds those of all, unless it is empty."""
        async with self.channel() as channel:
            there = (await channel.declare_queue(self.topology.dead, passive=True)).declaration_result
            if not (there.message_count or there.consumer_count):  # a reader holds what it has read
                return 0
        with self.reaching():
            return sum(each.group == group for each in (await self._letters.all()).values())

    async def dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter."""
        with self.reaching():
            return await self._letters.one(letter_id)

    async def remove_dead_letter(self, letter_id: str) -> bool:
        """Remove one dead letter."""
        with self.reaching():
            return await self._letters.remove(letter_id)

    # --- for members and letters --------------------------------------------------------------------------------------

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Open a channel for the block; what fails there is BrokerUnavailable."""
        with self.reaching():
            channel = await self.open_channel()
            try:
                yield channel
            finally:
                with suppress(*CONNECTION_EXCEPTIONS, TimeoutError):
                    async with asyncio.timeout(self.timeout):
                        await channel.close()

    async def open_channel(self) -> AbstractChannel:
        """Return a new channel with publisher confirms."""
        connection = await self._connected()
        async with asyncio.timeout(self.timeout):
            return await connection.channel()

    async def make_group(self, group: str, types: Collection[str]) -> None:
        """Make the queues of a group, or check them."""
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(self.channel()) for _ in range(side_by_side())]
            with self.reaching():
                await self.topology.make_group(opened, group, types)

    def left(self, member: Member) -> None:
        """Note that a member has closed."""
        self._members.discard(member)

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Turn whatever the client raises within the block into BrokerUnavailable."""
        try:
            yield
        except BrokerUnavailable:
            raise
        except ChannelPreconditionFailed as differs:
            if "inequivalent" not in str(differs):
                raise self._away(str(differs)) from differs
            raise TopologyMismatch(
                f"RabbitMQ at {self._shown} has something else under a name of ours: {differs}; delete that queue or "
                "exchange once it is empty (`rabbitmqctl delete_queue NAME`), or use names of your own: ?name=NAME"
            ) from differs
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as failed:
            raise self._away(str(failed) or type(failed).__name__) from failed

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if not self._started:
                raise self._away("it is not started")
            if self._connection is None or self._connection.is_closed or not self._connection.connected.is_set():
                self._connection = await self._connect()
            return self._connection

    async def _connect(self) -> AbstractConnection:
        try:
            async with asyncio.timeout(self.timeout):
                connection = await connect(self._url, client_properties={"connection_name": "interlock"})
        except (AuthenticationError, ProbableAuthenticationError) as refused:
            raise self._away(f"it refuses the user or the password of the URL ({refused})") from refused
        except TimeoutError as silent:
            raise self._away("it does not answer") from silent
        except CONNECTION_EXCEPTIONS as failed:
            raise self._away(str(failed) or type(failed).__name__) from failed
        version = _version(connection)
        if version < OLDEST:
            await connection.close()
            raise self._away(f"it is version {'.'.join(map(str, version))}, and 3.10 or newer is needed")
        return connection

    async def _outgoing(self) -> AbstractChannel:
        """Return the channel that publishes; made anew, as is what it needs at the server, where it was closed."""
        async with self._opening:
            if self._publishing is None or self._publishing.is_closed:
                with self.reaching():
                    channel = await self.open_channel()
                    await self.topology.make(channel)
                    self._publishing = channel
            return self._publishing

    async def _publish(self, channel: AbstractChannel, envelope: Envelope, group: str) -> None:
        message = Message(
            to_json(envelope),
            content_type="application/cloudevents+json",
            delivery_mode=DeliveryMode.PERSISTENT,
            type=envelope.type if len(envelope.type) <= _NAME_BYTES else None,
            message_id=envelope.id if len(envelope.id.encode()) <= _NAME_BYTES else None,
            timestamp=envelope.time,
        )
        with self.reaching():
            under = await channel.get_underlay_channel()
            await under.basic_publish(  # type: ignore[call-arg]  # `wait` is missing in its abstract class
                message.body,
                exchange=self.topology.exchange,
                routing_key=self.topology.key(envelope, group),
                properties=message.properties,
                timeout=self.timeout,
                wait=False,  # not for the flush: the confirmation, which is waited for, says more
            )

    async def _lag(self, group: str) -> int:
        waiting = 0
        async with self.channel() as channel:
            for partition in range(PARTITIONS):
                if channel.is_closed:
                    return 0  # there is no such group
                waiting += await ready(channel, self.topology.queue(group, partition))
        own = [seat for each in self._members if each.group == group for seat in each.seats.values()]
        return waiting + sum(len(seat.lane) for seat in own)

    def _away(self, why: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"RabbitMQ at {self._shown} can't be used: {why}")


def _version(connection: AbstractConnection) -> tuple[int, ...]:
    transport = connection.transport
    said = transport.connection.server_properties.get("version", "") if transport is not None else ""
    numbers = [part for part in str(said).split(".")[:2] if part.isdigit()]
    return tuple(map(int, numbers)) or OLDEST
