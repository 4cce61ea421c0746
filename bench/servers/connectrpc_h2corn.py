"""connectrpc, bare, on the server that Interlock runs on."""

from typing import Any

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint

from bench import reference
from bench.servers import on_h2corn
from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order

GET_ORDER = MethodInfo(
    name="GetOrder",
    service_name="api.order.v1.OrderService",
    input=GetOrderRequest,
    output=Order,
    idempotency_level=IdempotencyLevel.UNKNOWN,
    stream_type=StreamType.UNARY,
)


class Orders:
    async def get_order(self, request: GetOrderRequest, _context: Any) -> Order:
        return reference.order(request.order_id)


class Application(ConnectASGIApplication[Orders]):
    path = "/api.order.v1.OrderService"


if __name__ == "__main__":
    on_h2corn(
        Application(
            service=Orders(),
            endpoints=lambda service: {reference.UNARY: Endpoint.unary(GET_ORDER, service.get_order)},
        )
    )
