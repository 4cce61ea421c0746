"""Prints a descriptor as `.proto` text, for files that a wheel carries only as descriptors.

Custom options are left out: what uses the text only needs its types. Groups are not supported.
"""

from collections.abc import Iterator, Sequence
from json import dumps
from typing import Any

from protobuf import Enum, Message
from protobuf.wkt import FileDescriptorProto
from protobuf.wkt.google.protobuf.descriptor_pb import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    ServiceDescriptorProto,
)

Type, Label = FieldDescriptorProto.Type, FieldDescriptorProto.Label
INDENT = "  "
LAST_FIELD, LAST_ENUM = 536_870_911, 2_147_483_647


def print_proto(file: FileDescriptorProto) -> str:
    """Return the text of `file`, good for a compiler; comments and custom options are lost."""
    return "\n".join(_Printer(file).lines()) + "\n"


class _Printer:
    def __init__(self, file: FileDescriptorProto) -> None:
        self.file = file
        self.labels = file.syntax in ("", "proto2")

    def lines(self) -> Iterator[str]:
        file = self.file
        if file.syntax == "editions":
            yield f'edition = "{file.edition.name.removeprefix("EDITION_")}";'
        else:
            yield f'syntax = "{file.syntax or "proto2"}";'
        if file.package:
            yield f"package {file.package};"
        for index, path in enumerate(file.dependency):
            kind = "public " if index in file.public_dependency else ""
            yield f"import {kind}{dumps(path)};"
        yield from (f"option {each};" for each in _options(file.options))
        for message in file.message_type:
            yield from self.message(message)
        for enum in file.enum_type:
            yield from _enum(enum)
        yield from self.extensions(file.extension)
        for service in file.service:
            yield from _service(service)

    def message(self, message: DescriptorProto) -> Iterator[str]:
        entries = {each.name: each for each in message.nested_type if each.options and each.options.map_entry}
        yield f"message {message.name} {{"
        yield from _indented(f"option {each};" for each in _options(message.options))
        yield from _indented(self.fields(message, entries))
        for nested in message.nested_type:
            if nested.name not in entries:
                yield from _indented(self.message(nested))
        for enum in message.enum_type:
            yield from _indented(_enum(enum))
        yield from _indented(self.extensions(message.extension))
        for extensible in message.extension_range:
            yield f"{INDENT}extensions {_range(extensible.start, extensible.end - 1, LAST_FIELD)};"
        reserved = [_range(each.start, each.end - 1, LAST_FIELD) for each in message.reserved_range]
        yield from _indented(self.reserved(reserved, message.reserved_name))
        yield "}"

    def fields(self, message: DescriptorProto, entries: dict[str, DescriptorProto]) -> Iterator[str]:
        printed: set[int] = set()
        for field in message.field:
            index = field.oneof_index
            if not field.has_field("oneof_index") or field.proto3_optional:
                yield self.field(field, entries)
            elif index not in printed:
                printed.add(index)
                oneof = message.oneof_decl[index]
                yield f"oneof {oneof.name} {{"
                yield from _indented(f"option {each};" for each in _options(oneof.options))
                members = [
                    each for each in message.field if each.has_field("oneof_index") and each.oneof_index == index
                ]
                yield from _indented(self.field(each, entries, label=False) for each in members)
                yield "}"

    def field(self, field: FieldDescriptorProto, entries: dict[str, DescriptorProto], *, label: bool = True) -> str:
        entry = entries.get(field.type_name.rpartition(".")[2]) if field.label == Label.REPEATED else None
        if entry is not None and field.type == Type.MESSAGE:
            key, value = entry.field
            words = [f"map<{_type(key)}, {_type(value)}>"]
        else:
            words = [*([self.label(field)] if label else []), _type(field)]
        words += [field.name, "=", str(field.number)]
        options = list(_options(field.options))
        if field.has_field("default_value"):
            options.append(f"default = {_default(field)}")
        if field.has_field("json_name") and field.json_name != _json_name(field.name) and field.json_name:
            options.append(f"json_name = {dumps(field.json_name)}")
        text = " ".join(word for word in words if word)
        return f"{text} [{', '.join(options)}];" if options else f"{text};"

    def label(self, field: FieldDescriptorProto) -> str:
        if field.label == Label.REPEATED:
            return "repeated"
        if field.label == Label.REQUIRED:
            return "required"
        return "optional" if self.labels or field.proto3_optional else ""

    def extensions(self, fields: Sequence[FieldDescriptorProto]) -> Iterator[str]:
        for field in fields:
            yield f"extend {field.extendee} {{"
            yield f"{INDENT}{self.field(field, {})}"
            yield "}"

    def reserved(self, ranges: Sequence[str], names: Sequence[str]) -> Iterator[str]:
        if ranges:
            yield f"reserved {', '.join(ranges)};"
        if names:
            quoted = names if self.file.syntax == "editions" else [dumps(each) for each in names]
            yield f"reserved {', '.join(quoted)};"


def _enum(enum: EnumDescriptorProto) -> Iterator[str]:
    yield f"enum {enum.name} {{"
    yield from _indented(f"option {each};" for each in _options(enum.options))
    for value in enum.value:
        options = ", ".join(_options(value.options))
        yield f"{INDENT}{value.name} = {value.number}" + (f" [{options}];" if options else ";")
    if enum.reserved_range:
        ranges = ", ".join(_range(each.start, each.end, LAST_ENUM) for each in enum.reserved_range)
        yield f"{INDENT}reserved {ranges};"
    if enum.reserved_name:
        yield f"{INDENT}reserved {', '.join(dumps(each) for each in enum.reserved_name)};"
    yield "}"


def _service(service: ServiceDescriptorProto) -> Iterator[str]:
    yield f"service {service.name} {{"
    for method in service.method:
        request = f"{'stream ' if method.client_streaming else ''}{method.input_type}"
        reply = f"{'stream ' if method.server_streaming else ''}{method.output_type}"
        yield f"{INDENT}rpc {method.name}({request}) returns ({reply});"
    yield "}"


def _options(options: "Message[Any] | None", prefix: str = "") -> Iterator[str]:
    """Yield `name = value` for each option that is set and known; an option that is a message is flattened."""
    if options is None:
        return
    for field in options.desc().fields:
        if field not in options or field.name in ("uninterpreted_option", "map_entry", "edition_defaults"):
            continue
        value = options[field]
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Message):
                yield from _options(each, f"{prefix}{field.name}.")
            else:
                yield f"{prefix}{field.name} = {_literal(each)}"


def _literal(value: object) -> str:
    if isinstance(value, Enum):
        return next(each.name for each in type(value).desc().values if each.number == int(value))
    if isinstance(value, bool):
        return str(value).lower()
    return dumps(value) if isinstance(value, str) else repr(value)


def _default(field: FieldDescriptorProto) -> str:
    if field.type == Type.STRING:
        return dumps(field.default_value, ensure_ascii=False)
    return f'"{field.default_value}"' if field.type == Type.BYTES else field.default_value


def _type(field: FieldDescriptorProto) -> str:
    return field.type_name or field.type.name.removeprefix("TYPE_").lower()


def _range(first: int, last: int, greatest: int) -> str:
    if first == last:
        return str(first)
    return f"{first} to {'max' if last >= greatest else last}"


def _json_name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _indented(lines: "Iterator[str]") -> Iterator[str]:
    return (INDENT + line for line in lines)
