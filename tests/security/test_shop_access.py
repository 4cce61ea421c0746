"""Every operation of the shop, asked by every role: none answers without its permission."""

from collections.abc import Iterator

import pytest

from interlock.call import Call, Principal, Reply, compose
from interlock.contract.model import Operation
from interlock.errors import PermissionDenied, Unauthenticated
from interlock.security.access import access, load_roles
from shop.config import HERE, ShopSettings
from shop.gen.api.customer.v1.customer_rpc import CUSTOMER_SERVICE
from shop.gen.api.inventory.v1.inventory_rpc import INVENTORY_SERVICE
from shop.gen.api.order.v1.order_rpc import ORDER_SERVICE
from shop.gen.api.payment.v1.payment_rpc import PAYMENT_SERVICE

ROLES = load_roles(ShopSettings.model_fields["roles"].default)


def operations() -> Iterator[Operation]:
    """Yield them all, of the four services."""
    for stub in (CUSTOMER_SERVICE, INVENTORY_SERVICE, ORDER_SERVICE, PAYMENT_SERVICE):
        for rpc in stub.rpcs.values():
            yield stub.operation(rpc)


async def answers(operation: Operation, principal: Principal | None) -> bool:
    async def answer(_call: Call) -> Reply:
        return operation.reply_type()

    try:
        await compose([access(ROLES)], operation, answer)(Call(operation, principal=principal))
    except (PermissionDenied, Unauthenticated):
        return False
    return True


@pytest.mark.parametrize("operation", list(operations()), ids=lambda each: each.path)
async def test_none_answers_without_its_permission(operation: Operation) -> None:
    """What a role may is what the file says, written out here by hand: by name, by resource, by star."""
    assert operation.permission, "an operation of the shop names its permission"
    assert not await answers(operation, None)
    assert not await answers(operation, Principal(subject="nobody"))
    assert not await answers(operation, Principal(subject="liar", roles=frozenset([operation.permission, "*"])))
    resource = operation.permission.partition(":")[0]
    for role, held in ROLES.permissions.items():
        may = operation.permission in held or f"{resource}:*" in held or "*" in held
        assert await answers(operation, Principal(subject="x", roles=frozenset([role]))) is may, role


def test_the_roles_differ() -> None:
    """A customer, an operator, a service and the gateway have different powers, and nobody has all."""
    assert set(ROLES.permissions) == {"customer", "operator", "service", "gateway"}
    powers = {
        role: {each.path for each in operations() if role in ROLES.granting(each.permission)}
        for role in ROLES.permissions
    }
    assert powers["customer"] < powers["operator"]
    assert powers["service"] - powers["customer"]
    assert powers["operator"] - powers["service"]
    assert not any("*" in held for held in ROLES.permissions.values())
    assert (HERE / "roles.yaml").is_file()
