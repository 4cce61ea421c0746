"""A bare stub of grpc.aio."""

import asyncio

from grpc import aio

from bench import reference
from bench.clients import measure, target
from bench.identity import authorization
from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order


async def main() -> None:
    async with aio.insecure_channel(target()) as channel:
        stub = channel.unary_unary(reference.UNARY, GetOrderRequest.to_binary, Order.from_binary)

        metadata = (("authorization", authorization()),)

        async def call() -> Order:
            reply: Order = await stub(GetOrderRequest(order_id=reference.ORDER_ID), metadata=metadata)
            return reply

        await measure(call)


asyncio.run(main())
