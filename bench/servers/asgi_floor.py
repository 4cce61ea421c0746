"""The floor: what the codec, the handler and h2corn cost, with the least of a dispatcher around them."""

from typing import Any

from bench import reference
from bench.servers import on_h2corn
from shop.gen.api.order.v1.order_pb import GetOrderRequest

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/grpc+proto")],
    "trailers": True,
}
END = {"type": "http.response.body", "body": b"", "more_body": False}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}


async def get_order(_scope: Any, receive: Any, send: Any) -> None:
    event = await receive()
    body = event["body"]
    while event.get("more_body"):
        event = await receive()
        body += event.get("body", b"")
    data = reference.order(GetOrderRequest.from_binary(body[5:]).order_id).to_binary()
    await send(START)
    await send({"type": "http.response.body", "body": b"\0" + len(data).to_bytes(4, "big") + data, "more_body": True})
    await send(END)  # h2corn takes a fifth longer where the end comes with the body
    await send(TRAILERS)


ROUTES = {reference.UNARY: get_order}


async def app(scope: Any, receive: Any, send: Any) -> None:
    await ROUTES[scope["path"]](scope, receive, send)


if __name__ == "__main__":
    on_h2corn(app)
