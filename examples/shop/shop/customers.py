"""The customer service."""

from uuid import uuid4

from sqlalchemy import Column, MetaData, String, Table, select

from interlock import App, Call, NotFound
from interlock.data import Database
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_pb import CreateCustomerRequest, Customer, GetCustomerRequest
from shop.gen.api.customer.v1.customer_rpc import CustomerService

metadata = MetaData()
customers = Table(
    "customers",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("email", String, nullable=False),
)
SEED = [
    {"id": "c-1", "name": "Ada", "email": "ada@example.com"},
    {"id": "c-2", "name": "Grace", "email": "g@example.com"},
]


class Customers(CustomerService):
    """Knows who orders."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def get_customer(self, request: GetCustomerRequest, call: Call) -> Customer:
        async with self.database.transaction(read_only=True) as tx:
            row = (await tx.execute(select(customers).where(customers.c.id == request.customer_id))).first()
        if row is None:
            raise NotFound(f"no customer {request.customer_id!r}")
        return Customer(id=row.id, name=row.name, email=row.email)

    async def create_customer(self, request: CreateCustomerRequest, call: Call) -> Customer:
        customer = Customer(id=f"c-{uuid4().hex[:12]}", name=request.name, email=request.email)
        async with self.database.transaction() as tx:
            row = {"id": customer.id, "name": customer.name, "email": customer.email}
            await tx.execute(customers.insert().values(row))
        return customer

    async def seed(self) -> None:
        """Take in the shop's first customers, once."""
        async with self.database.transaction() as tx:
            known = {row.id for row in await tx.execute(select(customers.c.id))}
            for row in SEED:
                if row["id"] not in known:
                    await tx.execute(customers.insert().values(row))


def make(settings: ShopSettings | None = None) -> App:
    """Make the customer service."""
    settings = settings or ShopSettings(service_name="customers")
    database = settings.database("customers", metadata)
    handlers = Customers(database)
    return App(handlers, database=database, settings=settings, on_start=[handlers.seed])
