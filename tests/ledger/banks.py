"""The two banks as services, their books, and what must hold of the books once all is quiet."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from interlock import App, Call, Handler, Middleware, Operation, Reply, before
from interlock.data import Database, Transaction
from interlock.events.arrival import arrival
from interlock.events.broker import Broker
from interlock.settings import Settings
from tests.ledger.gen.ledger.v1.ledger_pb import TransferReceived, TransferSent
from tests.ledger.gen.ledger.v1.ledger_rpc import ReceivingBank, SendingBank

ACCOUNTS = 8
OPENING = 1_000_000
SENDER, RECEIVER = "ledger.v1.SendingBank", "ledger.v1.ReceivingBank"

_TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS account (name VARCHAR(20) PRIMARY KEY, balance BIGINT NOT NULL, "
        "sent BIGINT NOT NULL, handled BIGINT NOT NULL)"
    ),
    # no key: what is applied twice shall be seen, not refused
    "CREATE TABLE IF NOT EXISTS applied (account VARCHAR(20) NOT NULL, number BIGINT NOT NULL, after BIGINT NOT NULL)",
)


class Sending(SendingBank):
    """Sends money, and notes what has arrived."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def send(self, memo: str = "") -> tuple[str, int]:
        """Take an amount off an account and send it, in one transaction; return account and number of the transfer."""
        name, amount = f"account-{random.randrange(ACCOUNTS)}", random.randint(1, 100)

        async def work(tx: Transaction) -> int:
            changed = await tx.execute(
                "UPDATE account SET balance = balance - :amount, sent = sent + 1 WHERE name = :name RETURNING sent",
                {"amount": amount, "name": name},
            )
            number: int = changed.scalar_one()
            await tx.publish(TransferSent(account=name, number=number, amount=amount, memo=memo))
            return number

        return name, await self._database.run(work)

    async def on_transfer_received(self, event: TransferReceived, call: Call) -> None:
        async with self._database.transaction() as tx:
            await _apply(tx, event.account, event.number, 0)


class Receiving(ReceivingBank):
    """Receives money, and says so."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def on_transfer_sent(self, event: TransferSent, call: Call) -> None:
        async with self._database.transaction() as tx:
            await _apply(tx, event.account, event.number, event.amount)
            await tx.publish(TransferReceived(account=event.account, number=event.number))


async def _apply(tx: Transaction, account: str, number: int, amount: int) -> None:
    found = await tx.execute("SELECT handled FROM account WHERE name = :name", {"name": account})
    previous = found.scalar_one()
    await tx.execute(
        "UPDATE account SET balance = balance + :amount, handled = :number WHERE name = :name",
        {"amount": amount, "number": number, "name": account},
    )
    await tx.execute(
        "INSERT INTO applied VALUES (:account, :number, :previous)",
        {"account": account, "number": number, "previous": previous},
    )


@dataclass(slots=True)
class Raw:
    """What the broker delivered, duplicates included; `told` hears of each."""

    events: Counter[str] = field(default_factory=Counter)
    told: Callable[[str], object] = str

    def layer(self, _operation: Operation) -> Middleware:
        async def count(call: Call, proceed: Handler) -> Reply:
            event = arrival(call).delivery.envelope.id
            self.events[event] += 1
            self.told(event)
            return await proceed(call)

        return count

    @property
    def duplicates(self) -> int:
        return self.events.total() - len(self.events)


def app(make: type[Any], database: Database, broker: str | Broker, raw: Raw) -> tuple[Any, App]:
    """Return a bank and its app."""
    bank = make(database)
    settings = Settings(log_level="error", token_issuer="ledger")
    made = App(bank, database=database, broker=broker, settings=settings, consuming=[before("attempts", raw.layer)],
               access_log=False, on_start=[lambda: open_books(database)])  # fmt: skip
    return bank, made


async def open_books(database: Database) -> None:
    """Make the accounts where they are missing."""
    async with database.transaction() as tx:
        for table in _TABLES:
            await tx.execute(table)
        for number in range(ACCOUNTS):
            await tx.execute(
                "INSERT INTO account VALUES (:name, :balance, 0, 0) ON CONFLICT DO NOTHING",
                {"name": f"account-{number}", "balance": OPENING},
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What a bank's books say: the sum of its balances, transfers sent, events applied, those that should not be."""

    balance: int
    sent: int
    applied: int
    twice: int
    disordered: int


async def read_books(database: Database) -> Books:
    """Return what the books say now."""
    async with database.transaction(read_only=True) as tx:
        balance, sent = tuple((await tx.execute("SELECT sum(balance), sum(sent) FROM account")).one())
        counted = await tx.execute(
            "SELECT (SELECT count(*) FROM applied), "
            "(SELECT count(*) FROM (SELECT DISTINCT account, number FROM applied) AS each_once)"
        )
        applied, once = tuple(counted.one())
        disordered = (await tx.execute("SELECT count(*) FROM applied WHERE number <> after + 1")).scalar_one()
    return Books(
        balance=int(balance), sent=int(sent), applied=applied, twice=applied - once, disordered=int(disordered)
    )


def wrong(books: Sequence[Books], duplicates: int, letters: int) -> list[str]:
    """Return what does not hold of the books of sender and receiver, in words; nothing if all does."""
    sender, receiver = books
    found = []
    if sender.balance + receiver.balance != 2 * ACCOUNTS * OPENING:
        found.append(f"the sum is {sender.balance + receiver.balance}, and was {2 * ACCOUNTS * OPENING}")
    for name, each in (("sender", sender), ("receiver", receiver)):
        if each.applied != sender.sent:
            found.append(f"the {name} applied {each.applied} of {sender.sent} events")
        if each.twice:
            found.append(f"the {name} applied {each.twice} events twice")
        if each.disordered:
            found.append(f"the {name} applied {each.disordered} events out of their key's order")
    if letters:
        found.append(f"there are {letters} dead letters")
    if not duplicates:
        found.append("THE TEST DID NOT BITE: the broker delivered no event twice, so nothing was deduplicated")
    return found


async def settled(sender: Database, receiver: Database, total: int, limit: float) -> None:
    """Wait until both banks have applied `total` events; TimeoutError after `limit` seconds."""
    async with asyncio.timeout(limit):
        for database in (receiver, sender):
            while (await read_books(database)).applied < total:  # noqa: ASYNC110 - other processes may write
                await asyncio.sleep(0.05)
