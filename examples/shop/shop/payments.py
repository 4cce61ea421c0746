"""The payment service, with a provider that can be told to refuse."""

from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp
from sqlalchemy import Boolean, Column, LargeBinary, MetaData, String, Table, select

from interlock import App, Call, NotFound
from interlock.data import Database, Transaction
from shop.config import ShopSettings
from shop.gen.api.inventory.v1.events_pb import InventoryReserved
from shop.gen.api.payment.v1.events_pb import PaymentCompleted, PaymentFailed
from shop.gen.api.payment.v1.payment_pb import (
    GetPaymentRequest,
    Payment,
    PaymentStatus,
    ProviderRule,
    SetProviderRuleRequest,
)
from shop.gen.api.payment.v1.payment_rpc import PaymentService

metadata = MetaData()
payments = Table(
    "payments",
    metadata,
    Column("order_id", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)
rules = Table(
    "provider_rules",
    metadata,
    Column("customer_id", String, primary_key=True),
    Column("refuse", Boolean, nullable=False),
)


class Payments(PaymentService):
    """Takes the money for what is reserved."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get_payment(self, request: GetPaymentRequest, call: Call) -> Payment:
        async with self.database.transaction(read_only=True) as tx:
            row = (await tx.execute(select(payments.c.body).where(payments.c.order_id == request.order_id))).first()
        if row is None:
            raise NotFound(f"no payment for order {request.order_id!r}")
        return Payment.from_binary(row.body)

    async def set_provider_rule(self, request: SetProviderRuleRequest, call: Call) -> ProviderRule:
        rule = request.rule or ProviderRule()
        async with self.database.transaction() as tx:
            await tx.execute(rules.delete().where(rules.c.customer_id == rule.customer_id))
            await tx.execute(rules.insert().values(customer_id=rule.customer_id, refuse=rule.refuse))
        return rule

    async def on_inventory_reserved(self, event: InventoryReserved, call: Call) -> None:
        now = Timestamp.now()
        async with self.database.transaction() as tx:
            failure = await self.charge(tx, event.customer_id)
            status = PaymentStatus.FAILED if failure else PaymentStatus.COMPLETED
            payment = Payment(
                order_id=event.order_id, amount=event.amount, status=status, failure=failure, decided_at=now
            )
            await tx.execute(payments.insert().values(order_id=event.order_id, body=payment.to_binary()))
            if failure:
                await tx.publish(PaymentFailed(order_id=event.order_id, failure=failure, failed_at=now))
            else:
                await tx.publish(PaymentCompleted(order_id=event.order_id, amount=event.amount, completed_at=now))

    async def charge(self, tx: Transaction, customer_id: str) -> str:
        """Ask the provider for the money; return why it refused, empty if it did not."""
        row = (await tx.execute(select(rules.c.refuse).where(rules.c.customer_id == customer_id))).first()
        return "the provider refused the payment" if row is not None and row.refuse else ""


def make(settings: ShopSettings | None = None) -> App:
    """Make the payment service."""
    settings = settings or ShopSettings(service_name="payments")
    database = settings.database("payments", metadata)
    return App(Payments(database), database=database, settings=settings)
