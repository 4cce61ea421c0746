"""Our typed client over Connect, on httpx2, with its full default stack."""

import asyncio
import os

from bench import reference
from bench.clients import measure, target
from bench.identity import TOKEN
from interlock import BearerToken
from shop.gen.api.order.v1.order_pb import Order
from shop.gen.api.order.v1.order_rpc import OrderServiceClient


async def main() -> None:
    async with OrderServiceClient(f"http://{target()}", credentials=BearerToken(os.environ[TOKEN])) as client:

        async def call() -> Order:
            return await client.get_order(order_id=reference.ORDER_ID)

        await measure(call)


asyncio.run(main())
