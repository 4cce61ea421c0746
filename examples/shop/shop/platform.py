"""The shop as a whole: `interlock up shop.platform:platform`."""

from interlock.platform import Platform

platform = Platform(
    services={
        "customers": "shop.customers:make",
        "inventory": "shop.inventory:make",
        "payments": "shop.payments:make",
        "orders": "shop.orders:make",
    },
    gateway="shop.gateway:make",
)
