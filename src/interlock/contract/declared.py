"""What an image declares, as its authors wrote it: descriptors, options and where they stand, before any rule."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from protobuf import DescField, DescFile, DescMessage, DescMethod, DescService, Message, Registry
from protobuf._codegen import file_desc  # what generated modules call; pinned with protobuf-py
from protobuf.wkt import FileDescriptorSet
from protobuf.wkt.google.protobuf.descriptor_pb import MethodOptions as ProtoMethodOptions

from interlock.contract.gen.google.api.annotations_pb import ext_http
from interlock.contract.gen.google.api.http_pb import HttpRule
from interlock.contract.gen.interlock.v1.options_pb import (
    EventOptions,
    FieldOptions,
    MethodOptions,
    ServiceOptions,
    ext_event,
    ext_field,
    ext_method,
    ext_service,
)
from interlock.contract.model import Source
from interlock.contract.modules import installed
from interlock.contract.sources import Path, Sources

BUNDLED_PACKAGES = ("google", "grpc", "buf", "interlock.v1")
"""Packages that come with Interlock or its libraries; nothing in them is the user's contract."""

OPTION = ext_service.desc().number
NO_SIDE_EFFECTS = ProtoMethodOptions.IdempotencyLevel.NO_SIDE_EFFECTS
HTTP = ext_http.desc().number


@dataclass(frozen=True, slots=True)
class Place:
    """An element of a file: its comment and where it, or one of its options, stands."""

    sources: Sources
    path: Path
    options: int

    @property
    def comment(self) -> str:
        """The element's comment."""
        return self.sources.comment(self.path)

    @property
    def source(self) -> Source:
        """Where the element stands."""
        return self.sources.source(self.path)

    def option(self, *fields: int, extension: int = OPTION) -> Source:
        """Where a field of one of its options stands, by field numbers."""
        return self.sources.source((*self.path, self.options, extension, *fields))


@dataclass(frozen=True, slots=True)
class DeclaredRpc:
    """One RPC; `http` holds its main route and the additional ones, each with where it stands."""

    method: DescMethod
    options: MethodOptions
    http: tuple[tuple[HttpRule, Source], ...]
    place: Place

    def __str__(self) -> str:
        return f"{self.method.parent.name}.{self.method.name}"

    def where(self, option: str, *more: int) -> Source:
        """Return where that option stands, or a part of it."""
        return self.place.option(_number(MethodOptions, option), *more)


@dataclass(frozen=True, slots=True)
class DeclaredService:
    """One service with its RPCs."""

    service: DescService
    options: ServiceOptions
    rpcs: tuple[DeclaredRpc, ...]
    place: Place

    def where(self, option: str, *more: int) -> Source:
        """Return where that option stands, or a part of it."""
        return self.place.option(_number(ServiceOptions, option), *more)


@dataclass(frozen=True, slots=True)
class DeclaredEvent:
    """One message that is an event."""

    message: DescMessage
    options: EventOptions
    place: Place

    def where(self, option: str, *more: int) -> Source:
        """Return where that option stands, or a part of it."""
        return self.place.option(_number(EventOptions, option), *more)


@dataclass(frozen=True, slots=True)
class DeclaredField:
    """One field that carries options of Interlock."""

    field: DescField
    options: FieldOptions
    place: Place

    def where(self, option: str, *more: int) -> Source:
        """Return where that option stands, or a part of it."""
        return self.place.option(_number(FieldOptions, option), *more)


@dataclass(frozen=True, slots=True)
class Declared:
    """All that the user's files of one image declare."""

    registry: Registry
    services: tuple[DeclaredService, ...]
    events: tuple[DeclaredEvent, ...]
    fields: tuple[DeclaredField, ...]

    @property
    def rpcs(self) -> Iterator[DeclaredRpc]:
        """Every RPC of every service."""
        return (rpc for service in self.services for rpc in service.rpcs)


def _number(options: type[Message[Any]], name: str) -> int:
    return next(each.number for each in options.desc().fields if each.name == name)


def is_bundled(package: str) -> bool:
    """Whether `package` is one of those that come with Interlock or its libraries."""
    return any(package == each or package.startswith(f"{each}.") for each in BUNDLED_PACKAGES)


def read(image: bytes) -> Declared:
    """Read an image, a binary FileDescriptorSet.

    Bundled files are taken from their installed modules: that is four times as fast as building them from the image,
    and their messages (`Timestamp`) are then the classes that everybody imports.
    """
    descs: dict[str, DescFile] = {}
    own: list[DescFile] = []
    for file in FileDescriptorSet.from_binary(image).file:
        desc = installed(file.name)
        if desc is None:
            desc = file_desc(file.to_binary(), [descs[each] for each in file.dependency], {})
            if not is_bundled(file.package):
                own.append(desc)
        descs[file.name] = desc
    imported = {each.name for desc in descs.values() for each in desc.dependencies}
    return declared(Registry(*(desc for name, desc in descs.items() if name not in imported)), own)


def declared(registry: Registry, files: Iterable[DescFile]) -> Declared:
    """Collect what `files` declare."""
    services: list[DeclaredService] = []
    events: list[DeclaredEvent] = []
    fields: list[DeclaredField] = []
    for file in files:
        sources = Sources(file.proto)
        services += [_service(each, index, sources) for index, each in enumerate(file.services)]
        for message, path in _messages(file):
            event = _event(message, Place(sources, path, 7))
            events += [event] if event else []
            fields += _fields(message, path, sources)
    return Declared(registry, tuple(services), tuple(events), tuple(fields))


def _service(service: DescService, index: int, sources: Sources) -> DeclaredService:
    place = Place(sources, (6, index), 3)
    options = service.proto.options
    facts = (options[ext_service] if options is not None else None) or ServiceOptions()
    rpcs = (_rpc(each, Place(sources, (6, index, 2, number), 4)) for number, each in enumerate(service.methods))
    return DeclaredService(service, facts, tuple(rpcs), place)


def _rpc(method: DescMethod, place: Place) -> DeclaredRpc:
    options = method.proto.options
    if options is None:
        return DeclaredRpc(method, MethodOptions(), (), place)
    http: list[tuple[HttpRule, Source]] = []
    if ext_http in options:
        rule = options[ext_http]
        http.append((rule, place.option(extension=HTTP)))
        additional = enumerate(rule.additional_bindings)
        http += [(each, place.option(11, number, extension=HTTP)) for number, each in additional]
    rules = options[ext_method] if ext_method in options else MethodOptions()
    return DeclaredRpc(method, rules, tuple(http), place)


def _event(message: DescMessage, place: Place) -> DeclaredEvent | None:
    options = message.proto.options
    if options is None or ext_event not in options:
        return None
    return DeclaredEvent(message, options[ext_event], place)


def _fields(message: DescMessage, path: Path, sources: Sources) -> Iterator[DeclaredField]:
    for index, field in enumerate(message.fields):
        options = field.proto.options
        if options is not None and ext_field in options:
            yield DeclaredField(field, options[ext_field], Place(sources, (*path, 2, index), 8))


def _messages(file: DescFile) -> Iterator[tuple[DescMessage, Path]]:
    for index, message in enumerate(file.messages):  # a map entry is never at the top, so the indexes agree
        yield message, (4, index)
        yield from _nested(message, (4, index))


def _nested(message: DescMessage, path: Path) -> Iterator[tuple[DescMessage, Path]]:
    index_of = {proto.name: index for index, proto in enumerate(message.proto.nested_type)}
    for each in message.nested_messages:
        inner = (*path, 3, index_of[each.name])
        yield each, inner
        yield from _nested(each, inner)


def subscriptions(service: DescService, events: Mapping[str, DescMessage]) -> Iterator[tuple[str, DescMessage]]:
    """Yield type and message of each event that `service` subscribes to and whose message is known."""
    options = service.proto.options
    facts = options[ext_service] if options is not None else None
    for each in facts.subscribes if facts is not None else ():
        if each in events:
            yield each, events[each]
