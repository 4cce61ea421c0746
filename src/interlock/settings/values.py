"""The types of settings beyond Python's own: lengths of time, sizes, ports, lists of names and of origins."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from interlock.contract.policies import read_policy

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_BYTES = re.compile(r"\s*(\d+)\s*(B|KiB|MiB|GiB)?\s*")
_FACTORS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, None: 1}


def _duration(value: object) -> object:
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError('a duration reads "30s", "250ms", "5m", "1h", or a number of seconds')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _BYTES.fullmatch(value)
    if match is None:
        raise ValueError('a size reads "4MiB", "512KiB", or a number of bytes')
    return int(match[1]) * _FACTORS[match[2]]


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A length of time, not negative: "30s", "250ms", "5m", "1h", or a number of seconds."""

ByteSize = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""A number of bytes: "4MiB", "512KiB", or a plain number."""


def _names(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
"""Several names: "a,b"."""


def _origins(value: object) -> object:
    from interlock.protocols.cors import check_origin  # noqa: PLC0415 - only where origins are named

    names = _names(value)
    if not isinstance(names, list | tuple) or not names:
        return names
    found = tuple(check_origin(str(each)) for each in names)
    if "*" in found and len(found) > 1:
        raise ValueError("* is every origin; name no other beside it")
    return found


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
"""Several origins of scripts: "https://a.example,https://b.example", or "*"."""


def _policy(value: object) -> object:
    read_policy(value)
    return value


PolicyTable = Annotated[str | Mapping[str, Any], BeforeValidator(_policy)]
"""How calls are made: a preset's name, or a table such as {"retry": {"attempts": 2}, "timeout": "2s"}."""

Port = Annotated[int, Field(ge=0, le=65535)]
