"""A message written as the Python expression that makes it, with the imports that it needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from protobuf import DescEnum, DescMessage, DescOneof, Message

from interlock.contract.modules import package_of
from interlock.contract.python.layout import Group
from interlock.contract.rest_shape import element_of


@dataclass(slots=True)
class Names:
    """The names that expressions use, by the module that has them; `package` is where generated code lies."""

    package: str
    used: dict[str, set[str]] = field(default_factory=dict)

    def of(self, described: DescMessage | DescEnum) -> str:
        """Return how a message or enum is called, and remember its import."""
        package = described.file.proto.package
        name = described.type_name.removeprefix(f"{package}." if package else "")
        self.use(self.module(described.file.name), name.partition(".")[0])
        return name

    def module(self, file: str, suffix: str = "_pb") -> str:
        """Return the module generated from the file (`api/order/v1/order.proto`)."""
        package = package_of(file) or self.package
        return ".".join(filter(None, (package, file.removesuffix(".proto").replace("/", ".") + suffix)))

    def use(self, module: str, name: str) -> None:
        """Remember an import."""
        self.used.setdefault(module, set()).add(name)

    def imports(self) -> list[str]:
        """Return the import lines, sorted."""
        return [f"from {module} import {', '.join(sorted(self.used[module]))}" for module in sorted(self.used)]


def arguments(message: Message[Any], names: Names) -> Iterator[str | Group]:
    """Yield `name=expression` for each field that is set."""
    for member in message.desc().members:
        value = getattr(message, member.local_name)
        if isinstance(member, DescOneof):
            if value is not None:
                names.use("protobuf", "Oneof")
                chosen = next(each for each in member.fields if each.local_name == value.field)
                inner = expression(value.value, element_of(chosen), names)
                items = (f'field="{value.field}"', _prefixed("value=", inner))
                yield Group(f"{member.local_name}=Oneof(", items, ")")
        elif message.has_field(member.name):
            yield _prefixed(f"{member.local_name}=", expression(value, element_of(member), names))


def expression(value: Any, element: Any, names: Names) -> str | Group:
    """Return the expression for a field's value, whose elements are of the type `element`."""
    if isinstance(value, list):
        return Group("[", tuple(expression(each, element, names) for each in value), "]")
    if isinstance(value, Mapping):
        entries = (_prefixed(f"{_plain(key)}: ", expression(each, element, names)) for key, each in value.items())
        return Group("{", tuple(entries), "}")
    if isinstance(element, DescMessage):
        return Group(f"{names.of(element)}(", tuple(arguments(value, names)), ")")
    if isinstance(element, DescEnum):
        return f"{names.of(element)}.{value.name}"
    return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"' if value.isprintable() and not {'"', "\\"} & set(value) else repr(value)
    return repr(value)


def _prefixed(prefix: str, inner: str | Group) -> str | Group:
    if isinstance(inner, str):
        return prefix + inner
    return Group(prefix + inner.opening, inner.items, inner.closing, inner.one_per_line)
