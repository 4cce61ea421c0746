"""Compressions of messages and bodies, under the names that HTTP and RPC share (RFC 9110 §8.4.1).

gzip is always there; zstd and brotli where the extra `compression` is installed. Nothing inflates past its bound.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

from interlock.errors import InvalidArgument, TooLarge, Unimplemented

if TYPE_CHECKING:
    from zstandard import ZstdDecompressor

THRESHOLD = 1024
"""Bytes below which a message goes as it is: the frame of a compression would eat what it saves."""
_GZIP = 16 + zlib.MAX_WBITS
_ZSTD_WINDOW = 8 << 20  # RFC 9659: what every decoder of the web bears


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """One way to compress. `inflate` takes data and the bytes it may become: TooLarge, or InvalidArgument if broken."""

    name: bytes
    compress: Callable[[bytes], bytes]
    inflate: Callable[[bytes, int], bytes]


def gzipped(message: bytes) -> bytes:
    """Compress one message."""
    return gzip.compress(message, compresslevel=1, mtime=0)


def gunzipped(data: bytes, limit: int) -> bytes:
    """Decompress one message without inflating more than `limit` bytes; TooLarge, or InvalidArgument if broken."""
    inflater = zlib.decompressobj(_GZIP)
    try:
        message = inflater.decompress(data, limit + 1)
    except zlib.error as broken:
        raise InvalidArgument("the message is not valid gzip") from broken
    if len(message) > limit:
        raise _too_large(limit)
    if not inflater.eof or inflater.unused_data:
        raise InvalidArgument("the message is not one whole gzip stream")
    return message


def _zstd_compressed(message: bytes) -> bytes:
    import zstandard  # noqa: PLC0415 - an extra, loaded when somebody uses it

    return zstandard.compress(message, 1)


def _zstd_inflated(data: bytes, limit: int) -> bytes:
    import zstandard  # noqa: PLC0415 - an extra, loaded when somebody uses it

    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    try:
        size = zstandard.get_frame_parameters(data).content_size
        if size == zstandard.CONTENTSIZE_UNKNOWN:
            return _zstd_unsized(decompressor, data, limit)
        if size > limit:
            raise _too_large(limit)
        return decompressor.decompress(data, allow_extra_data=False)
    except zstandard.ZstdError as broken:
        raise InvalidArgument("the message is not one whole zstd frame") from broken


def _zstd_unsized(decompressor: "ZstdDecompressor", data: bytes, limit: int) -> bytes:
    if len(decompressor.stream_reader(data).read(limit + 1)) > limit:
        raise _too_large(limit)
    whole: bytes = decompressor.decompress(data, max_output_size=limit or 1, allow_extra_data=False)
    return whole


def _brotli_compressed(message: bytes) -> bytes:
    import brotli  # noqa: PLC0415 - an extra, loaded when somebody uses it

    compressed: bytes = brotli.compress(message, quality=4)
    return compressed


def _brotli_inflated(data: bytes, limit: int) -> bytes:
    import brotli  # noqa: PLC0415 - an extra, loaded when somebody uses it

    inflater = brotli.Decompressor()
    try:
        message: bytes = inflater.process(data, output_buffer_limit=limit + 1)
    except brotli.error as broken:
        raise InvalidArgument("the message is not valid brotli") from broken
    if len(message) > limit:
        raise _too_large(limit)
    if not inflater.is_finished():
        raise InvalidArgument("the message is not one whole brotli stream")
    return message


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the message is larger than {limit} bytes once decompressed")


GZIP = Compression(name=b"gzip", compress=gzipped, inflate=gunzipped)
ZSTD = Compression(name=b"zstd", compress=_zstd_compressed, inflate=_zstd_inflated)
BROTLI = Compression(name=b"br", compress=_brotli_compressed, inflate=_brotli_inflated)


def _installed() -> Mapping[bytes, Compression]:
    found = [GZIP]
    if find_spec("zstandard") is not None:
        found.insert(0, ZSTD)
    if find_spec("brotli") is not None:
        found.append(BROTLI)
    return {each.name: each for each in found}


KNOWN = _installed()
"""What this process can do, best first, by name."""
NAMES = b", ".join(KNOWN)
"""Their names, as a header lists them."""


def compression_of(encoding: bytes, header: str) -> Compression:
    """Return the compression of that name; UNIMPLEMENTED names those there are."""
    found = KNOWN.get(encoding)
    if found is None:
        raise Unimplemented(f"{header} must be identity or one of {NAMES.decode()}")
    return found


@lru_cache(512)
def accepted(value: bytes | None, known: tuple[bytes, ...] = tuple(KNOWN)) -> Compression | None:
    """Return the compression of `known` that a list of accepted ones likes best, None for identity.

    Of equal weights the first of `known` counts (RFC 9110 §12.5.3); a name of weight 0 is refused.
    """
    weights = _weights(value or b"")
    best, most = None, 0.0
    for name in known:
        weight = weights.get(name, weights.get(b"*", 0.0))
        if weight > most:
            best, most = KNOWN[name], weight
    return best if most >= weights.get(b"identity", 0.0) else None


def _weights(value: bytes) -> dict[bytes, float]:
    weights = {}
    for part in value.lower().split(b",")[:64]:
        name, _, parameter = part.partition(b";")
        given = parameter.strip().removeprefix(b"q=")
        try:
            weights[name.strip()] = float(given) if given else 1.0
        except ValueError:
            weights[name.strip()] = 0.0
    return weights
