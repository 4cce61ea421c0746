"""Metadata of a call: what gRPC calls metadata and HTTP calls header fields, in one form for all protocols."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence

_NAME = re.compile(r"[0-9a-z_.\-]+\Z")
_VALUE = re.compile(r"[\x20-\x7e]*\Z")
_RESERVED = frozenset(("content-type", "content-length", "transfer-encoding", "connection", "te", "trailer", "host"))

Pairs = Iterable[tuple[str, str | bytes]]


class MalformedMetadata(ValueError):
    """A `-bin` value that is not base64; from a request it is the caller's mistake."""


class Metadata:
    """Names (lower-case) with one or more values each, in order.

    Values are printable ASCII text; a name that ends in `-bin` holds bytes, read with `binary`. Kept in the form of
    the wire (a list of byte pairs, `-bin` values in base64), so that a front hands it on without a copy.
    """

    __slots__ = ("_index", "raw")

    def __init__(self, pairs: Pairs = ()) -> None:
        self.raw: list[tuple[bytes, bytes]] = []
        self._index: dict[bytes, bytes] | None = None
        for name, value in pairs:
            self.add(name, value)

    @classmethod
    def from_raw(cls, raw: list[tuple[bytes, bytes]]) -> "Metadata":
        """Take `raw` as it came from the wire: lower-case names, unchecked; the list is not copied."""
        metadata = cls.__new__(cls)
        metadata.raw = raw
        metadata._index = None
        return metadata

    def add(self, name: str, value: str | bytes) -> None:
        """Add a value, keeping those that `name` already has; ValueError if it could not travel over every protocol."""
        name = name.lower()
        if not _NAME.match(name) or name in _RESERVED or name.startswith("grpc-"):
            raise ValueError(
                f"{name!r} can't be a metadata name: lower-case letters, digits, '-', '_', '.', not reserved"
            )
        if name.endswith("-bin"):
            if isinstance(value, str):
                raise ValueError(f"{name!r} ends in -bin, so its value must be bytes")
            encoded = b64encode(value).rstrip(b"=")
        elif isinstance(value, str) and _VALUE.match(value):
            encoded = value.encode()
        else:
            raise ValueError(f"the value of {name!r} must be printable ASCII; use a name that ends in -bin for bytes")
        self.raw.append((name.encode(), encoded))
        self._index = None

    def set(self, name: str, value: str | bytes) -> None:
        """Give `name` this value only."""
        self.remove(name)
        self.add(name, value)

    def remove(self, name: str) -> None:
        """Drop every value of `name`, if there is one."""
        key = name.lower().encode()
        self.raw = [pair for pair in self.raw if pair[0] != key]
        self._index = None

    def header(self, name: bytes) -> bytes | None:
        """Return the last value of a name in the form of the wire; the cheap way, for the fronts."""
        return self.index.get(name)

    @property
    def index(self) -> Mapping[bytes, bytes]:
        """The last value of each name in the form of the wire, to look at, not to change."""
        index = self._index
        if index is None:
            index = self._index = dict(self.raw)
        return index

    def repeats(self, names: Sequence[bytes]) -> bool:
        """Tell whether one of `names` has several values."""
        found = [name for name, _ in self.raw if name in names]
        return len(found) > len(set(found))

    def get(self, name: str) -> str | None:
        """Return the last value of `name` as text, or None."""
        value = self.header(name.lower().encode())
        return None if value is None else value.decode("latin-1")

    def get_all(self, name: str) -> list[str]:
        """Return every value of `name` as text, in order."""
        key = name.lower().encode()
        return [value.decode("latin-1") for each, value in self.raw if each == key]

    def binary(self, name: str) -> bytes | None:
        """Return the last value of a `-bin` name, or None; MalformedMetadata if it is not base64.

        Several values may share one line, comma-separated (gRPC PROTOCOL-HTTP2); the last of them counts.
        """
        values = self.binary_all(name)
        return values[-1] if values else None

    def binary_all(self, name: str) -> list[bytes]:
        """Return every value of a `-bin` name, in order; MalformedMetadata if one is not base64."""
        return [_decoded(name, part) for value in self.get_all(name) for part in value.split(",")]

    def items(self) -> Iterator[tuple[str, str | bytes]]:
        """Yield each name with each of its values: bytes for `-bin` names, text for the others.

        MalformedMetadata if a value of a `-bin` name is not base64.
        """
        for name, value in self.raw:
            text = name.decode("latin-1")
            if text.endswith("-bin"):
                for part in value.decode("latin-1").split(","):
                    yield text, _decoded(text, part)
            else:
                yield text, value.decode("latin-1")

    def extend(self, other: "Metadata") -> None:
        """Add all of `other`."""
        self.raw.extend(other.raw)
        self._index = None

    def copy(self) -> "Metadata":
        """Return an independent copy."""
        return Metadata.from_raw(list(self.raw))

    def __contains__(self, name: str) -> bool:
        return self.header(name.lower().encode()) is not None

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metadata) and self.raw == other.raw

    __hash__ = None  # type: ignore[assignment]  # mutable, like a list

    def __repr__(self) -> str:
        names = ", ".join(sorted({name.decode("latin-1") for name, _ in self.raw}))
        return f"Metadata({names})"  # names only: values may be credentials


def _decoded(name: str, value: str) -> bytes:
    value = value.strip()
    try:
        return b64decode(value + "=" * (-len(value) % 4), validate=True)
    except ValueError as broken:
        raise MalformedMetadata(f"the value of {name} is not base64") from broken
