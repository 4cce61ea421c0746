"""The shop's services on empty databases, and tokens for them."""

from dataclasses import dataclass

import pytest

from interlock import App
from interlock.testing import Keyring, Surroundings
from shop import customers, inventory, orders, store
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient


@dataclass
class Shop:
    """The order service with its neighbours in process."""

    orders: App
    keys: Keyring

    def token(self, role: str) -> str:
        """Return a token of somebody with that role."""
        return self.keys.token(role, subject=f"a {role}")


@pytest.fixture
def shop_settings(surroundings: Surroundings) -> ShopSettings:
    """Settings of services that keep everything below a directory of the test."""
    with surroundings.around({"log_level": "error"}):
        return ShopSettings(service_name="orders")


@pytest.fixture
def shop(shop_settings: ShopSettings, keys: Keyring) -> Shop:
    """The order service; customers and inventory are started with it."""
    known, stock = customers.make(shop_settings), inventory.make(shop_settings)
    database = shop_settings.database("orders", store.metadata)
    handlers = orders.Orders(
        database,
        CustomerServiceClient(known, credentials=shop_settings.credentials()),
        InventoryServiceClient(stock, credentials=shop_settings.credentials()),
    )
    app = App(
        handlers,
        database=database,
        settings=shop_settings,
        on_start=[known.start, stock.start],
        on_stop=[known.stop, stock.stop],
    )
    return Shop(app, keys)
