"""grpc.aio, bare: on asyncio's loop, or on uvloop when `uvloop` follows the port."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio

from bench import reference
from bench.servers import port
from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order, OrderStatusChange, WatchOrderStatusRequest


async def get_order(request: GetOrderRequest, _context: Any) -> Order:
    return reference.order(request.order_id)


async def watch_order_status(request: WatchOrderStatusRequest, _context: Any) -> AsyncIterator[OrderStatusChange]:
    for change in reference.changes(request.order_id):
        yield change


async def main() -> None:
    server = aio.server()
    unary = grpc.unary_unary_rpc_method_handler(get_order, GetOrderRequest.from_binary, Order.to_binary)
    stream = grpc.unary_stream_rpc_method_handler(
        watch_order_status, WatchOrderStatusRequest.from_binary, OrderStatusChange.to_binary
    )
    methods = {"GetOrder": unary, "WatchOrderStatus": stream}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("api.order.v1.OrderService", methods),))
    server.add_insecure_port(f"127.0.0.1:{port()}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    if "uvloop" in sys.argv:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    else:
        asyncio.run(main())
