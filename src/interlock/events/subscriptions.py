"""A service's subscriptions as operations, and its `on_…` methods as their handlers."""

import inspect
from collections.abc import Iterable
from typing import Any, get_type_hints

from protobuf import Message
from protobuf.wkt import Empty

from interlock.call import Call, Handler, Reply
from interlock.contract.model import Event, Kind, Operation, Service


def subscriptions(service: Service, events: Iterable[Event], owner: Any) -> list[tuple[Operation, Handler]]:
    """Return an operation and its handler for each event type that `service` subscribes to, in that order.

    `owner` is the object that implements the service; its method for `payment.completed` is `on_payment_completed`.
    The operation's path is `/package.Service/payment.completed`. TypeError if a method does not fit, LookupError if
    no contract knows the event's message.
    """
    known = {each.type: each for each in events}
    found = []
    for type_ in service.subscribes:
        if type_ not in known:
            raise LookupError(
                f"{service.source}: {service.name} subscribes to {type_!r}, whose message is in none of its contracts; "
                "add the .proto of the service that publishes it, and generate again"
            )
        operation = _operation(service, known[type_], owner)
        found.append((operation, _bind(operation, owner)))
    return found


def _operation(service: Service, event: Event, owner: Any) -> Operation:
    name = f"on_{event.type.replace('.', '_')}"
    return Operation(
        service=service.name,
        name=event.type,
        python_name=name,
        kind=Kind.UNARY,
        request_type=_message_type(owner, name) or event.message_type,
        reply_type=Empty,
        tier=service.tier,
        deprecation=event.deprecation,
        comment=event.comment,
        source=event.source,
    )


def _bind(operation: Operation, owner: Any) -> Handler:
    method = getattr(owner, operation.python_name, None)
    where = f"{type(owner).__name__}.{operation.python_name}"
    if method is None:
        raise TypeError(f"{where} is missing: nothing consumes {operation.name} for {operation.service}")
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{where} must be `async def`; blocking work goes through `await in_thread(…)`")

    async def handle(call: Call) -> Reply:
        await method(call.request, call)
        return Empty()

    return handle


def _message_type(owner: Any, name: str) -> type[Message[Any]] | None:
    """Return the generated class that the abstract method takes; the contract's own may be one made from the image."""
    for each in type(owner).__mro__:
        method = each.__dict__.get(name)
        if getattr(method, "__isabstractmethod__", False):
            found = get_type_hints(method).get("event")
            return found if isinstance(found, type) and issubclass(found, Message) else None
    return None
