"""The gateway of the shop."""

from interlock import App
from interlock.platform import gateway
from shop.config import ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CustomerServiceClient
from shop.gen.api.inventory.v1.inventory_rpc import InventoryServiceClient
from shop.gen.api.order.v1.order_rpc import OrderServiceClient
from shop.gen.api.payment.v1.payment_rpc import PaymentServiceClient


def make(settings: ShopSettings | None = None) -> App:
    """Make the gateway in front of the four services."""
    settings = settings or ShopSettings(service_name="gateway", service_roles=("gateway",))
    shown = settings.credentials()
    return gateway(
        CustomerServiceClient(settings.upstream("customers"), credentials=shown),
        OrderServiceClient(settings.upstream("orders"), credentials=shown),
        InventoryServiceClient(settings.upstream("inventory"), credentials=shown),
        PaymentServiceClient(settings.upstream("payments"), credentials=shown),
        settings=settings,
    )
