"""Rules of events: their types, their keys, and who publishes them."""

import re
from collections.abc import Iterator

from protobuf import DescFieldValueScalar, ScalarType

from interlock.contract.declared import Declared, DeclaredEvent, DeclaredService
from interlock.contract.mistakes import Mistake
from interlock.contract.names import nearest
from interlock.contract.rules.deprecation import deprecation_mistakes

TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+\Z")


def event_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield what is wrong with events, and with the services that name them."""
    first: dict[str, DeclaredEvent] = {}
    for event in declared.events:
        yield from _of_event(event)
        other = first.setdefault(event.options.type, event)
        if other is not event:
            message = (
                f"{event.message.name} and {other.message.name} ({other.place.source}) are both {event.options.type!r}"
            )
            yield Mistake(event.where("type"), message, "give each event a type of its own")
    for service in declared.services:
        yield from _of_service(service, set(first))


def _of_event(event: DeclaredEvent) -> Iterator[Mistake]:
    name, options = event.message.name, event.options
    if not TYPE.match(options.type):
        message = f"{name}: {options.type!r} is no event type"
        yield Mistake(event.where("type"), message, "write `noun.verb-in-the-past` in lower case (`order.created`)")
    fields = {each.name: each for each in event.message.fields}
    field = fields.get(options.key)
    if not options.key:
        message = f"{name} has no key, so its events have no order"
        yield Mistake(event.where("key"), message, 'name the field that orders them: `key: "order_id"`')
    elif field is None:
        message = f"{name}: its key {options.key!r} is none of its fields{nearest(options.key, fields)}"
        yield Mistake(event.where("key"), message, "name a field of the message")
    elif not isinstance(field.value, DescFieldValueScalar) or field.value.scalar == ScalarType.BYTES:
        message = f"{name}: its key {options.key!r} holds no single text or number"
        yield Mistake(event.where("key"), message, "name a field that is a string or a number")
    yield from deprecation_mistakes(name, options.deprecation, event.where)


def _of_service(service: DeclaredService, known: set[str]) -> Iterator[Mistake]:
    name = service.service.name
    for index, type_ in enumerate(service.options.publishes):
        if type_ not in known:
            message = f"{name} publishes {type_!r}, but no message is that event{nearest(type_, known)}"
            remedy = f'put `option (interlock.v1.event) = {{ type: "{type_}" key: … }};` into its message'
            yield Mistake(service.where("publishes", index), message, remedy)
    for index, type_ in enumerate(service.options.subscribes):
        if not TYPE.match(type_):
            message = f"{name} subscribes to {type_!r}, which is no event type"
            yield Mistake(
                service.where("subscribes", index), message, "write it as its publisher does (`order.created`)"
            )
