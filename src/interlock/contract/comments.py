"""The comments of an image by full name: messages with their fields, enums with their values."""

from collections.abc import Iterator, Mapping, Sequence

from protobuf.wkt import FileDescriptorSet
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto, EnumDescriptorProto

from interlock.contract.sources import Path, Sources

_MESSAGES, _ENUMS, _NESTED, _NESTED_ENUMS, _FIELDS, _VALUES = 4, 5, 3, 4, 2, 2  # numbers in descriptor.proto


def comments(image: bytes) -> Mapping[str, str]:
    """Return full name -> comment of everything that has one (`api.order.v1.Order.items`)."""
    found: dict[str, str] = {}
    for file in FileDescriptorSet.from_binary(image).file:
        if file.source_code_info is None:
            continue
        sources = Sources(file)
        package = f"{file.package}." if file.package else ""
        places = [
            *_messages(file.message_type, package, (), _MESSAGES),
            *_enums(file.enum_type, package, (), _ENUMS),
        ]
        found.update((name, text) for name, path in places if (text := sources.comment(path)))
    return found


def _messages(messages: Sequence[DescriptorProto], above: str, path: Path, number: int) -> Iterator[tuple[str, Path]]:
    for index, message in enumerate(messages):
        here = (*path, number, index)
        name = f"{above}{message.name}"
        yield name, here
        for place, field in enumerate(message.field):
            yield f"{name}.{field.name}", (*here, _FIELDS, place)
        yield from _messages(message.nested_type, f"{name}.", here, _NESTED)
        yield from _enums(message.enum_type, f"{name}.", here, _NESTED_ENUMS)


def _enums(enums: Sequence[EnumDescriptorProto], above: str, path: Path, number: int) -> Iterator[tuple[str, Path]]:
    for index, enum in enumerate(enums):
        here = (*path, number, index)
        yield f"{above}{enum.name}", here
        for place, value in enumerate(enum.value):
            yield f"{above}{enum.name}.{value.name}", (*here, _VALUES, place)
