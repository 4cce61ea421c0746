"""What every broker must do, told once: a broker's test module subclasses `BrokerSuite` and hands in its maker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from interlock.events.broker import Broker, DeadLetter, Delivery, LeaseLost, Subscription, partition_of
from interlock.events.envelope import Envelope
from interlock.stamps import uuid7
from tests.waiting import until

TYPES = ("order.created", "order.cancelled")


def event(key: str, *, number: int = 0, type_: str = "order.created", id_: str = "") -> Envelope:
    return Envelope(
        id=id_ or uuid7(),
        source="tests",
        type=type_,
        partition_key=key,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        subject=key,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        request_id="r-1",
        data=f"{key}:{number}".encode(),
    )


def other_partition(than: str) -> str:
    return next(key for key in map(str, range(1000)) if partition_of(key) != partition_of(than))


def same_partition(as_: str) -> str:
    return next(key for key in map(str, range(1000)) if partition_of(key) == partition_of(as_) and key != as_)


async def take(subscription: Subscription, count: int, limit: float = 10.0) -> list[Delivery]:
    async with asyncio.timeout(limit):
        return [await subscription.next() for _ in range(count)]


async def drained(subscription: Subscription, count: int) -> list[bytes]:
    """Acknowledge `count` events as they come, and return their data."""
    found = []
    for _ in range(count):
        (delivery,) = await take(subscription, 1)
        await delivery.ack()
        found.append(delivery.envelope.data)
    return found


async def nothing_comes(subscription: Subscription, within: float = 0.3) -> bool:
    try:
        async with asyncio.timeout(within):
            await subscription.next()
    except TimeoutError:
        return True
    return False


class BrokerSuite:
    """Subclasses define the fixture `make`: opens a broker onto the same store each time it is called in one test."""

    @pytest.fixture
    async def broker(self, make: Callable[[], Awaitable[Broker]]) -> Broker:
        return await make()

    async def know(self, broker: Broker, *groups: str) -> None:
        """Have groups subscribe for the first time, where a broker keeps nothing for groups that it does not know."""
        if broker.features.keeps_history:
            return

        async def know(group: str) -> None:
            await (await broker.subscribe(group, TYPES)).close()

        await asyncio.gather(*map(know, groups))

    @asynccontextmanager
    async def member(self, broker: Broker, group: str = "orders") -> AsyncIterator[Subscription]:
        subscription = await broker.subscribe(group, TYPES)
        try:
            yield subscription
        finally:
            await subscription.close()

    async def test_an_event_arrives_whole(self, broker: Broker) -> None:
        """What is consumed equals what was published, every attribute and byte."""
        sent = event("o-1 ü%", number=7)
        await broker.publish([sent])
        async with self.member(broker) as member:
            (delivery,) = await take(member, 1)
            assert delivery.envelope == sent
            await delivery.ack()

    async def test_a_member_that_waits_is_woken(self, broker: Broker) -> None:
        """An event published while a member waits arrives at once."""
        async with self.member(broker) as member:
            waiting = asyncio.create_task(take(member, 1))
            await asyncio.sleep(0.05)
            await broker.publish([event("o-1")])
            (delivery,) = await waiting
            await delivery.ack()

    async def test_events_of_a_key_come_in_order(self, broker: Broker) -> None:
        """A key's events come one by one, in the order of publishing, across types."""
        events = [event("o-1", number=n, type_=TYPES[n % 2]) for n in range(20)]
        await broker.publish(events[:10])
        await broker.publish(events[10:])
        async with self.member(broker) as member:
            assert await drained(member, 20) == [each.data for each in events]

    async def test_a_partition_has_one_event_out(self, broker: Broker) -> None:
        """The next event of a partition comes once the one before is settled, that of another partition at once."""
        other = other_partition("o-1")
        await broker.publish([event("o-1", number=1), event("o-1", number=2), event(other)])
        async with self.member(broker) as member:
            out = await take(member, 2)
            assert {each.envelope.partition_key for each in out} == {"o-1", other}
            assert await nothing_comes(member)
            for each in out:
                await each.ack()
            assert await drained(member, 1) == [b"o-1:2"]

    async def test_what_waits_behind_an_event_is_taken_along(self, broker: Broker) -> None:
        """Events of a partition are taken in a row and settled together, each with attempts of its own."""
        neighbour = same_partition("o-1")
        await broker.publish([event(key, number=n) for n, key in enumerate(("o-1", neighbour, "o-1", "o-1"))])
        async with self.member(broker) as member:
            out = await take(member, 1)
            async with asyncio.timeout(10):
                while len(out) < 3:
                    out += member.more(out[0], 3 - len(out))
                    await asyncio.sleep(0.01)
            assert [each.envelope.data for each in out] == [b"o-1:0", f"{neighbour}:1".encode(), b"o-1:2"]
            assert await nothing_comes(member)
            assert [await each.attempt() for each in out] == [1, 1, 1]
            await member.settle(out[:2])
            await out[2].nack(0.0)
            (again,) = await take(member, 1)
            assert (again.envelope.data, await again.attempt()) == (b"o-1:2", 2)
            await again.ack()
            assert await drained(member, 1) == [b"o-1:3"]
            assert await broker.lag("orders", TYPES) == 0
        async with self.member(broker) as member:
            assert await nothing_comes(member)

    async def test_what_was_taken_along_and_not_begun_is_given_back(self, broker: Broker) -> None:
        """Events taken in a row come again in their order, uncounted, if they are given back."""
        await broker.publish([event("o-1", number=n) for n in range(3)])
        async with self.member(broker) as member:
            out = await take(member, 1)
            async with asyncio.timeout(10):
                while len(out) < 3:
                    out += member.more(out[0], 3 - len(out))
                    await asyncio.sleep(0.01)
            assert await out[0].attempt() == 1
            await out[0].ack()
            for each in out[1:]:
                await each.release()
            for number in (1, 2):
                (again,) = await take(member, 1)
                assert (again.envelope.data, await again.attempt()) == (f"o-1:{number}".encode(), 1)
                await again.ack()

    async def test_every_group_gets_every_event(self, broker: Broker) -> None:
        """Groups do not take events from each other."""
        await self.know(broker, "payments")
        await broker.publish([event("o-1")])
        async with self.member(broker, "orders") as one, self.member(broker, "payments") as two:
            assert await drained(one, 1) == await drained(two, 1) == [b"o-1:0"]

    async def test_types_not_asked_for_stay_away(self, broker: Broker) -> None:
        """A group gets the types it subscribed to."""
        await broker.publish([event("o-1", type_="stock.counted"), event("o-1", number=2)])
        async with self.member(broker) as member:
            assert await drained(member, 1) == [b"o-1:2"]
            assert await nothing_comes(member)

    async def test_an_id_is_stored_once(self, broker: Broker) -> None:
        """An event published again, after an answer was lost, has no second delivery, where the broker knows ids."""
        if not broker.features.knows_ids:
            pytest.skip("this broker does not know ids: what is published again comes again, and the inbox drops it")
        sent = event("o-1")
        await broker.publish([sent])
        await broker.publish([sent, event("o-1", number=2)])
        async with self.member(broker) as member:
            assert await drained(member, 2) == [b"o-1:0", b"o-1:2"]
            assert await nothing_comes(member)

    async def test_a_failed_event_comes_again_before_its_followers(self, broker: Broker) -> None:
        """What is given back with a delay holds back its own key and nothing else, and keeps its order."""
        neighbour = same_partition("o-1")
        await broker.publish([event("o-1", number=1), event("o-1", number=2), event(neighbour, number=3)])
        async with self.member(broker) as member:
            (failed,) = await take(member, 1)
            assert await failed.attempt() == 1
            await failed.nack(0.6)
            assert await drained(member, 1) == [f"{neighbour}:3".encode()]
            (again,) = await take(member, 1)
            assert again.envelope.data == b"o-1:1"
            assert await again.attempt() == 2
            await again.ack()
            assert await drained(member, 1) == [b"o-1:2"]

    async def test_what_is_released_is_not_counted(self, broker: Broker) -> None:
        """An event given back comes again at once, its attempt forgotten."""
        await broker.publish([event("o-1")])
        async with self.member(broker) as member:
            (delivery,) = await take(member, 1)
            assert await delivery.attempt() == 1
            await delivery.release()
            (again,) = await take(member, 1)
            assert await again.attempt() == 1
            await again.ack()

    async def test_another_member_goes_on_where_one_left(self, broker: Broker) -> None:
        """What a member that left had not settled goes to the next one, with its attempts counted."""
        await broker.publish([event("o-1", number=n) for n in range(3)])
        async with self.member(broker) as first:
            assert await drained(first, 1) == [b"o-1:0"]
            (left,) = await take(first, 1)
            assert await left.attempt() == 1
        async with self.member(broker) as second:
            (taken,) = await take(second, 1, limit=20.0)
            assert taken.envelope.data == b"o-1:1"
            assert await taken.attempt() == 2
            assert taken.lease == left.lease
            assert taken.fence > left.fence
            with pytest.raises(LeaseLost):
                await left.ack()
            await taken.ack()
            assert await drained(second, 1) == [b"o-1:2"]

    async def test_what_was_settled_out_of_turn_stays_settled(self, broker: Broker) -> None:
        """An event settled while an earlier one of its partition waits does not come again to the next member."""
        await broker.publish([event("o-1", number=1), event(same_partition("o-1"), number=2)])
        async with self.member(broker) as first:
            (failed,) = await take(first, 1)
            await failed.attempt()
            await failed.nack(0.5)
            await drained(first, 1)
        async with self.member(broker) as second:
            (again,) = await take(second, 1, limit=20.0)
            assert again.envelope.data == b"o-1:1"
            await again.ack()
            assert await nothing_comes(second)

    async def test_members_share_the_partitions(self, broker: Broker) -> None:
        """Each of two members gets a part of the events, and together they get all of them once."""
        async with self.member(broker) as one, self.member(broker) as two:
            got: list[list[bytes]] = [[], []]

            async def consume(member: Subscription, into: list[bytes]) -> None:
                while True:
                    delivery = await member.next()
                    try:
                        await delivery.ack()
                    except LeaseLost:
                        continue
                    into.append(delivery.envelope.data)

            tasks = [asyncio.create_task(consume(*each)) for each in zip((one, two), got, strict=True)]
            sent = 0
            async with asyncio.timeout(30):
                while not all(got):
                    await broker.publish([event(str(number), number=sent) for number in range(16)])
                    sent += 16
                    await asyncio.sleep(0.2)
                await until(lambda: len(got[0]) + len(got[1]) >= sent, 20.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert len({*got[0], *got[1]}) == len(got[0]) + len(got[1]) == sent

    async def test_lag_counts_what_is_not_settled(self, broker: Broker) -> None:
        """The lag of a group is what waits for it, and zero once all is settled."""
        await broker.publish([event("o-1", number=n) for n in range(3)])
        assert await broker.lag("orders", TYPES) == 3
        async with self.member(broker) as member:
            await drained(member, 2)
            assert await broker.lag("orders", TYPES) == 1
            await drained(member, 1)
            assert await broker.lag("orders", TYPES) == 0

    async def test_events_for_one_group_reach_no_other(self, broker: Broker) -> None:
        """An event published for a group comes again to that group alone, though its id is known."""
        await self.know(broker, "payments")
        sent = event("o-1")
        await broker.publish([sent])
        async with self.member(broker, "orders") as one, self.member(broker, "payments") as two:
            await drained(one, 1)
            await drained(two, 1)
            await broker.publish([sent.replayed()], group="orders")
            (again,) = await take(one, 1)
            assert (again.envelope.id, again.envelope.replays) == (sent.id, 1)
            await again.ack()
            assert await nothing_comes(two)

    async def test_dead_letters_are_kept(self, broker: Broker) -> None:
        """Dead letters are listed by id, page by page, found, replaced and removed."""
        letters = [
            DeadLetter(
                group=group,
                envelope=event("o-1", id_=f"e-{number}"),
                code="INTERNAL",
                cause="it broke, ü",
                attempts=5,
                at=datetime(2026, 11, 22, 12, tzinfo=UTC),
                traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
            for group in ("api.orders", "api.payments")
            for number in range(3)
        ]
        for letter in [*letters, letters[0]]:
            await broker.bury(letter)
        assert await broker.dead_letters() == letters
        assert await broker.dead_letters("api.payments") == letters[3:]
        assert [await broker.count_dead_letters(each) for each in ("api.payments", "api.nobody")] == [3, 0]
        assert await broker.dead_letters(limit=2, after=letters[1].id) == letters[2:4]
        assert await broker.dead_letter(letters[1].id) == letters[1]
        assert await broker.remove_dead_letter(letters[1].id)
        assert not await broker.remove_dead_letter(letters[1].id)
        assert await broker.dead_letter(letters[1].id) is None
        assert len(await broker.dead_letters()) == 5

    async def test_an_event_of_the_largest_size_passes(self, broker: Broker) -> None:
        """The largest event that the broker says it takes is taken and delivered."""
        small = event("o-1")
        size = broker.features.event_bytes - small.size
        large = Envelope(**{**{f: getattr(small, f) for f in Envelope.__dataclass_fields__}, "data": bytes(size)})
        await broker.publish([large])
        async with self.member(broker) as member:
            (delivery,) = await take(member, 1)
            assert delivery.envelope.size == large.size
            await delivery.ack()

    async def test_it_answers_while_it_runs(self, broker: Broker) -> None:
        """A broker that runs answers."""
        await broker.ping()


class SharedSuite(BrokerSuite):
    """What a broker must do besides, that several processes share."""

    async def test_what_is_published_outlives_the_broker(self, make: Callable[[], Awaitable[Broker]]) -> None:
        """Events, positions and attempts are there when the broker is opened again."""
        first = await make()
        await first.publish([event("o-1", number=n) for n in range(3)])
        async with self.member(first) as member:
            await drained(member, 1)
            (failed,) = await take(member, 1)
            await failed.attempt()
            await failed.nack(0.0)
        await first.stop()
        second = await make()
        async with self.member(second) as member:
            (again,) = await take(member, 1, limit=20.0)
            assert again.envelope.data == b"o-1:1"
            assert await again.attempt() == 2
            await again.ack()
            assert await drained(member, 1) == [b"o-1:2"]

    async def test_brokers_on_one_store_see_each_other(self, make: Callable[[], Awaitable[Broker]]) -> None:
        """An event published through one broker wakes the member of another."""
        one, two = await make(), await make()
        async with self.member(two) as member:
            waiting = asyncio.create_task(take(member, 1))
            await asyncio.sleep(0.05)
            await one.publish([event("o-1")])
            (delivery,) = await waiting
            await delivery.ack()
