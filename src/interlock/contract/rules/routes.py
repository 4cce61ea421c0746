"""Rules of HTTP routes: their paths, what the paths capture, their bodies, and that no two are one."""

from collections.abc import Iterator

from protobuf import DescField, DescFieldValueEnum, DescFieldValueMessage, DescFieldValueScalar, DescMessage, ScalarType

from interlock.contract.declared import Declared, DeclaredRpc
from interlock.contract.gen.google.api.http_pb import HttpRule
from interlock.contract.http import verb_and_path
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.contract.names import nearest
from interlock.contract.path_template import PathTemplate

BODILESS = ("GET", "DELETE")


def route_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield what is wrong with each route, and each route that another operation has already."""
    first: dict[str, tuple[DeclaredRpc, Source]] = {}
    for rpc in declared.rpcs:
        if rpc.http and rpc.method.method_kind in ("client_streaming", "bidi_streaming"):
            message = f"{rpc} streams its requests, which HTTP cannot carry"
            yield Mistake(rpc.http[0][1], message, "drop its `google.api.http`")
        for rule, source in rpc.http:
            verb, path = verb_and_path(rule)
            try:
                template = PathTemplate.parse(path)
            except ValueError as error:
                yield Mistake(source, f"{rpc}: {error}", "write the path as google/api/http.proto says")
                continue
            yield from _of_route(rpc, rule, source, template)
            route = f"{verb} {template.shape}"
            other, where = first.setdefault(route, (rpc, source))
            if where is not source:
                message = f"{rpc} and {other} ({where}) both answer {verb} {template}"
                yield Mistake(source, message, "give one of them another path or verb")


def _of_route(rpc: DeclaredRpc, rule: HttpRule, source: Source, template: PathTemplate) -> Iterator[Mistake]:
    verb, _ = verb_and_path(rule)
    request, reply = rpc.method.input, rpc.method.output
    captured = [each.field for each in template.variables]
    for name in captured:
        if problem := _variable_problem(name, request):
            yield Mistake(
                source, f"{rpc}: the path's {{{name}}} {problem}", f"name a field of {request.name} with one value"
            )
    if rule.body and verb in BODILESS:
        yield Mistake(source, f"{rpc}: a {verb} has no body, but `body: {rule.body!r}` is said", "drop `body`")
    elif rule.body not in ("", "*"):
        if rule.body not in (names := _names(request)):
            message = f"{rpc}: `body: {rule.body!r}` is no field of {request.name}{nearest(rule.body, names)}"
            yield Mistake(source, message, 'name one of its own fields, or `body: "*"` for all that the path leaves')
        elif rule.body in captured:
            yield Mistake(source, f"{rpc}: {rule.body!r} is both in the path and the body", "leave it in one of them")
    if rule.response_body and rule.response_body not in (names := _names(reply)):
        message = f"{rpc}: `response_body: {rule.response_body!r}` is no field of {reply.name}"
        yield Mistake(source, message + nearest(rule.response_body, names), "name one of the reply's own fields")
    if any(each.additional_bindings for each in rule.additional_bindings):
        yield Mistake(source, f"{rpc}: an additional binding holds bindings of its own", "list them side by side")


def _variable_problem(path: str, message: DescMessage) -> str:
    *parents, last = path.split(".")
    for name in parents:
        value = _field(message, name).value if name in _names(message) else None
        if not isinstance(value, DescFieldValueMessage):
            return f"leads through {name!r}, which is no message in {message.name}"
        message = value.message
    names = _names(message)
    if last not in names:
        return f"is no field of {message.name}{nearest(last, names)}"
    match _field(message, last).value:
        case DescFieldValueScalar(scalar=ScalarType.BYTES):
            return "is bytes, which no path can hold"
        case DescFieldValueScalar() | DescFieldValueEnum():
            return ""
        case DescFieldValueMessage():
            return "is a message, not one value"
    return "is repeated, not one value"


def _names(message: DescMessage) -> list[str]:
    return [each.name for each in message.fields]


def _field(message: DescMessage, name: str) -> DescField:
    return next(each for each in message.fields if each.name == name)
