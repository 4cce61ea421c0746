"""Where a created resource stands: the `Location` of a 201, from the GET route of the same type."""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from protobuf import DescField, DescMessage, Message

from interlock.contract.model import HttpBinding, Operation
from interlock.contract.path_template import PathTemplate, Variable
from interlock.contract.rest_shape import creates, fits_query, is_repeated, resolve

Locate: TypeAlias = Callable[[Message[Any], Any], bytes | None]
"""Reply and request to the value of `Location`, or None where a variable has no value."""


def locator(operation: Operation, binding: HttpBinding, operations: Iterable[Operation]) -> Locate | None:
    """Return what locates the resource that a route creates, None where it creates none or no GET shows it.

    `CreateOrder` is shown by `GetOrder` of the same service if both reply with the same message. A variable of its
    path takes the reply's field of the same path (`order_id`, `order.id`), else of its last part (`id`), else, as the
    last variable, the reply's `id`; else the request's field of the same path.
    """
    if not creates(operation, binding):
        return None
    name = "Get" + operation.name.removeprefix("Create")
    reply = operation.reply_type.desc()
    for each in operations:
        same = each.service == operation.service and each.name == name
        if same and each.reply_type.desc().type_name == reply.type_name:
            for route in each.http:
                if route.verb == "GET":
                    return _locate(route.template, reply, operation.request_type.desc())
    return None


def _locate(template: PathTemplate, reply: DescMessage, request: DescMessage) -> Locate | None:
    sources: list[tuple[Variable, tuple[DescField, ...], bool]] = []
    for variable in template.variables:
        last = variable is template.variables[-1]
        names = [variable.field, variable.field.rpartition(".")[2], *(["id"] if last else [])]
        fields = next((found for each in names if (found := _scalar(reply, each))), None)
        if fields is not None:
            sources.append((variable, fields, True))
        elif (fields := _scalar(request, variable.field)) is not None:
            sources.append((variable, fields, False))
        else:
            return None

    def locate(made: Message[Any], asked: Any) -> bytes | None:
        segments = list(template.segments)
        for variable, fields, in_reply in reversed(sources):
            value = _value(made if in_reply else asked, fields)
            if value in (None, "", ".", ".."):  # dots would be resolved away
                return None
            several = variable.end != variable.start + 1
            segments[variable.start : variable.end] = [quote(str(value), safe="/-._~" if several else "-._~")]
        path = "/" + "/".join(segments) + (f":{template.verb}" if template.verb else "")
        return path.encode("ascii")

    return locate


def _scalar(message: DescMessage, path: str) -> tuple[DescField, ...] | None:
    try:
        fields = resolve(message, path)
    except KeyError:
        return None
    return fields if fits_query(fields[-1]) and not is_repeated(fields[-1]) else None


def _value(message: Any, fields: tuple[DescField, ...]) -> Any:
    for field in fields:
        if message is None:
            return None
        message = message[field]
    return message
