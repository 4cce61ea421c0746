"""The shop's services on empty databases, and tokens for them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from interlock import App
from interlock.security.keys import KeySet, new_keys
from interlock.security.tokens import Issuer
from shop import customers, inventory, orders, store
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient


@dataclass
class Shop:
    """The order service with its neighbours in process."""

    orders: App
    issuer: Issuer

    def token(self, role: str) -> str:
        """Return a token of somebody with that role."""
        return self.issuer.mint(f"a {role}", [role])


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KeySet]:
    """Keys for all tests, and where they are."""
    directory = tmp_path_factory.mktemp("keys") / "keys"
    return directory, new_keys(directory)


@pytest.fixture
def shop_settings(tmp_path: Path, keys: tuple[Path, KeySet]) -> ShopSettings:
    """Settings of services that keep everything below a directory of the test."""
    return ShopSettings(
        keys=keys[0],
        database_url=f"sqlite:///{tmp_path}/{{name}}.db",
        broker=f"embedded:{tmp_path}/broker.db",
        log_level="error",
        service_name="orders",
    )


@pytest.fixture
def shop(shop_settings: ShopSettings, keys: tuple[Path, KeySet]) -> Shop:
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
    return Shop(app, Issuer(keys=keys[1], name=shop_settings.token_issuer, audience=shop_settings.token_audience))
