"""grpcio's own server with a pool of threads, bare."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from bench import reference
from bench.servers import port
from shop.gen.api.order.v1.order_pb import GetOrderRequest, Order


def get_order(request: GetOrderRequest, _context: Any) -> Order:
    return reference.order(request.order_id)


def main() -> None:
    server = grpc.server(ThreadPoolExecutor(max_workers=10))
    unary = grpc.unary_unary_rpc_method_handler(get_order, GetOrderRequest.from_binary, Order.to_binary)
    service = grpc.method_handlers_generic_handler("api.order.v1.OrderService", {"GetOrder": unary})
    server.add_generic_rpc_handlers((service,))
    server.add_insecure_port(f"127.0.0.1:{port()}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
