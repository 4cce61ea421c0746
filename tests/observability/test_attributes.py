"""Attributes of spans from chosen fields, and what happened to a call as events of its span."""

import asyncio
import contextlib
from datetime import timedelta
from typing import Any

import pytest

from interlock import Call, Error, NotFound, Unavailable
from interlock.call import Direction, Handler, compose
from interlock.observability.attributes import LONGEST, extractor
from interlock.observability.tracing import Tracing, trace
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.resilience.retry import RetryPolicy
from interlock.resilience.shedding import Overloaded
from shop.gen.api.order.v1.events_pb import OrderCreated
from shop.gen.api.order.v1.order_pb import CreateOrderRequest, GetOrderRequest, Order, OrderItem
from shop.gen.api.order.v1.order_rpc import CREATE_ORDER, GET_ORDER, ORDER_SERVICE
from tests.observability.receiver import Collector, collecting
from tests.sample.gen.sample.v1.sample_pb import EchoRequest
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make

ITEMS = [OrderItem(product_id="p-cup", quantity=2), OrderItem(product_id="p-tea", quantity=1)]


@pytest.mark.parametrize(
    "message, wanted",
    [
        (CreateOrderRequest(customer_id="c-1", items=ITEMS), {"customer.id": "c-1", "items.count": 2}),
        (GetOrderRequest(order_id="o-1"), {"order.id": "o-1"}),
        (GetOrderRequest(), {}),
        (OrderCreated(order_id="o-1", customer_id="c", items=[]), {"order.id": "o-1", "customer.id": "c"}),
        (GetOrderRequest(order_id="x" * 10_000), {"order.id": "x" * LONGEST}),
    ],
    ids=lambda each: type(each).__name__,
)
def test_chosen_fields_are_told(message: Any, wanted: dict[str, Any]) -> None:
    """By the names that the contract gave them: values, and of what is repeated how many; bounded."""
    extract = extractor(type(message))
    assert extract is not None
    assert extract(message) == wanted


def test_a_message_without_chosen_fields_costs_nothing() -> None:
    """There is nothing to read then."""
    assert extractor(EchoRequest) is None


async def ended(collector: Collector, operation: Any, call: Call, handle: Handler, ratio: float = 1.0) -> None:
    """Run a call through the layer, and have its span exported."""
    tracing = Tracing("orders", endpoint=collector.url, ratio=ratio, slow=0.05)
    await tracing.start()
    error = None
    try:
        await compose([trace(tracing)], operation, handle)(call)
    except Error as raised:
        error = raised
    call.end(error)
    await tracing.stop()


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_span_tells_of_request_and_reply(direction: Direction) -> None:
    """The order's id comes with the reply, the customer with the request."""
    operation = ORDER_SERVICE.operation(CREATE_ORDER)
    request = CreateOrderRequest(customer_id="c-1", items=ITEMS)

    async def create(_call: Call) -> Any:
        return Order(id="o-1", items=ITEMS)

    with collecting() as collector:
        await ended(collector, operation, Call(operation, direction=direction, request=request), create)
    (span,) = collector.spans
    wanted = {"order.id": "o-1", "customer.id": "c-1", "items.count": 2}
    assert {name: span.attributes.get(name) for name in wanted} == wanted


async def test_a_failed_call_tells_of_its_request() -> None:
    """Also where there is no reply."""
    operation = ORDER_SERVICE.operation(GET_ORDER)

    async def fail(_call: Call) -> Any:
        raise NotFound("no such order")

    with collecting() as collector:
        await ended(collector, operation, Call(operation, request=GetOrderRequest(order_id="o-9")), fail)
    (span,) = collector.spans
    assert span.attributes["order.id"] == "o-9"


@pytest.mark.parametrize("seconds, spans", [(0.06, 1), (0.0, 0)])
async def test_a_slow_call_is_recorded_though_not_sampled(seconds: float, spans: int) -> None:
    """A quick one that succeeded is not."""
    operation = ORDER_SERVICE.operation(GET_ORDER)

    async def take_time(_call: Call) -> Any:
        await asyncio.sleep(seconds)
        return Order(id="o-1")

    with collecting() as collector:
        call = Call(operation, request=GetOrderRequest(order_id="o-1"))
        if not spans:
            call.started += 3600  # whatever else the machine does, it was quick
        await ended(collector, operation, call, take_time, ratio=0.0)
    assert len(collector.spans) == spans


class Calling(Sample):
    """Calls a neighbour that fails, twice, and bears it."""

    def __init__(self, neighbour: SampleServiceClient) -> None:
        super().__init__()
        self.neighbour = neighbour

    async def echo(self, request: Any, call: Call) -> Any:
        for _ in range(2):
            with contextlib.suppress(Unavailable):
                await self.neighbour.get_thing(thing_id="x")
        return await super().echo(request, call)


class Failing(Sample):
    """Is never there."""

    async def get_thing(self, _request: Any, _call: Call) -> Any:
        raise Unavailable("busy")


@pytest.mark.parametrize("retries", [1, 2])
async def test_retries_and_open_circuits_are_events(retries: int) -> None:
    """Each attempt after the first is noted at the call, a refusal by the breaker at the attempt that it refused."""
    policy = BreakerPolicy(minimum_calls=0, consecutive_failures=1 if retries == 1 else 1000)
    quickly = RetryPolicy(retries=retries, base=timedelta(milliseconds=1), longest_pause=timedelta(seconds=1))
    with collecting() as collector:
        tracing = Tracing("caller", endpoint=collector.url, ratio=1.0)
        async with (
            make(Failing()) as failing,
            SampleServiceClient(failing, retries=quickly, breaker=policy) as neighbour,
            make(Calling(neighbour), tracing=tracing) as app,
            SampleServiceClient(app) as client,
        ):
            await client.echo(text="x")
    name = "sample.v1.SampleService/GetThing"
    sent = [each for each in collector.spans if each.kind == "CLIENT"]
    calls = [[event["name"] for event in each.events] for each in sent if each.name == name]
    attempts = [[event["name"] for event in each.events] for each in sent if each.name == f"{name} attempt"]
    if retries == 2:
        assert calls[0] == ["retry", "retry", "exception"]
        assert attempts[:3] == [["exception"]] * 3
    else:
        assert attempts == [["exception"], *[["circuit_open", "exception"]] * 2]


async def test_a_shed_call_says_so() -> None:
    """An operator sees that it was refused for load, not for a fault."""
    operation = ORDER_SERVICE.operation(GET_ORDER)

    async def refuse(_call: Call) -> Any:
        raise Overloaded("too much")

    with collecting() as collector:
        await ended(collector, operation, Call(operation), refuse)
    assert [event["name"] for event in collector.spans[0].events] == ["shed", "exception"]
