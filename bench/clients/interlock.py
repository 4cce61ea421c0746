"""Our typed client, with its full default stack."""

import asyncio

from bench import reference
from bench.clients import measure, target
from shop.gen.api.order.v1.order_pb import Order
from shop.gen.api.order.v1.order_rpc import OrderServiceClient


async def main() -> None:
    async with OrderServiceClient(target()) as client:

        async def call() -> Order:
            return await client.get_order(order_id=reference.ORDER_ID)

        await measure(call)


asyncio.run(main())
