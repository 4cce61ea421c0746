"""What the contract rules look at: an image, what it declares, and its own files with their lines."""

from collections.abc import Iterator
from dataclasses import dataclass

from protobuf import DescField, DescFile, DescMessage

from interlock.contract.declared import Declared, DeclaredRpc, is_bundled, read
from interlock.contract.http import verb_and_path
from interlock.contract.model import Source
from interlock.contract.modules import installed
from interlock.contract.path_template import PathTemplate
from interlock.contract.sources import Path, Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class Declarations:
    """One image and what its own files, bundled ones left out, declare."""

    image: bytes
    declared: Declared
    files: tuple[DescFile, ...]


def declarations(image: bytes) -> Declarations:
    """Read an image for the rules; nothing in it need be free of mistakes."""
    declared = read(image)
    files = (each for each in declared.registry if isinstance(each, DescFile))
    own = (each for each in files if installed(each.name) is None and not is_bundled(each.proto.package))
    return Declarations(image=image, declared=declared, files=tuple(sorted(own, key=lambda each: each.name)))


def fields(file: DescFile) -> Iterator[tuple[DescField, Source]]:
    """Yield every field of every message of `file`, with where it stands."""
    sources = Sources(file.proto)
    for index, message in enumerate(file.messages):
        yield from _fields(message, (4, index), sources)  # numbers in descriptor.proto


def _fields(message: DescMessage, path: Path, sources: Sources) -> Iterator[tuple[DescField, Source]]:
    for index, field in enumerate(message.fields):
        yield field, sources.source((*path, 2, index))
    places = {proto.name: index for index, proto in enumerate(message.proto.nested_type)}  # it holds map entries too
    for each in message.nested_messages:
        yield from _fields(each, (*path, 3, places[each.name]), sources)


@dataclass(frozen=True, slots=True)
class Route:
    """One route of an RPC, and where it stands."""

    verb: str
    template: PathTemplate
    source: Source


def routes(rpc: DeclaredRpc) -> Iterator[Route]:
    """Yield the routes of `rpc` whose paths can be read; the others are mistakes of the contract anyway."""
    for rule, source in rpc.http:
        verb, path = verb_and_path(rule)
        try:
            yield Route(verb, PathTemplate.parse(path), source)
        except ValueError:
            continue
