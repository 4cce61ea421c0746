"""What must not stand in a log or a trace: fields that the contract calls sensitive, and keys that name credentials."""

import logging
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from protobuf import DescField, DescMessage, Message

from interlock.contract.gen.interlock.v1.options_pb import ext_field

MASK = "***"
SECRETS = frozenset(
    (
        *("authorization", "proxy_authorization", "cookie", "set_cookie", "password", "passwd", "secret", "token"),
        *("access_token", "refresh_token", "id_token", "api_key", "apikey", "x_api_key", "private_key"),
        "client_secret",
    )
)
"""Keys whose values are masked wherever a log line has them, in any case, `-` and `_` alike."""
_ENDINGS = ("_password", "_passwd", "_secret", "_secret_key", "_access_key", "_private_key", "_api_key")
"""Ends of keys that are masked too (`db_password`)."""

_DEEPEST = 8
_MANY = 20


def masked(message: Message[Any], depth: int = 0) -> dict[str, Any]:
    """Return what is set in a message by field names, sensitive fields masked; deep and long ones are cut."""
    found: dict[str, Any] = {}
    for field in _fields(type(message).desc()):
        if field not in message:
            continue
        found[field.name] = MASK if sensitive(field) else _shown(message[field], depth)
    return found


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, Message):
        return masked(value, depth + 1) if depth < _DEEPEST else "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return {str(key): _shown(value[key], depth) for key in list(value)[:_MANY]}
    if isinstance(value, str | int | float | bool | None):
        return value
    if hasattr(value, "__iter__"):
        return [_shown(each, depth) for each in list(value)[:_MANY]]
    return str(value)


def sensitive(field: DescField) -> bool:
    """Tell whether the contract wants the field masked."""
    options = field.proto.options
    return options is not None and ext_field in options and bool(options[ext_field].sensitive)


@lru_cache(1024)
def _fields(desc: DescMessage) -> tuple[DescField, ...]:
    return tuple(desc.fields)


@lru_cache(1024)
def _is_secret(key: object) -> bool:
    name = (key.decode("latin-1") if isinstance(key, bytes) else str(key)).lower().replace("-", "_")
    return name in SECRETS or name.endswith(_ENDINGS)


def mask(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask a line, a processor of structlog: values of keys that name secrets, sensitive fields of messages."""
    for key, value in line.items():
        if type(value) is str and not _is_secret(key):
            continue
        line[key] = MASK if _is_secret(key) and value not in (None, "") else _within(value)
    return line


def mask_arguments(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Mask what is to be formatted into a line, a processor of structlog."""
    if arguments := line.get("positional_args"):
        line["positional_args"] = _arguments(arguments)
    return line


class Masked(logging.Filter):
    """Masks what is to be formatted into the lines of the standard library's loggers, for a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every line pass."""
        if record.args:
            record.args = _arguments(record.args)
        return True


def _arguments(given: Any) -> Any:
    return tuple(map(_within, given)) if isinstance(given, tuple) else _within(given)


def _within(value: Any, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        return "…" if isinstance(value, _HOLDERS) else value
    if isinstance(value, Message):
        return masked(value)
    if isinstance(value, dict):
        return {key: MASK if _is_secret(key) else _within(each, depth + 1) for key, each in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes) and _is_secret(value[0]):
        return [value[0], MASK]  # a header field
    if isinstance(value, list | tuple) and any(isinstance(each, _HOLDERS) for each in value):
        shown = value[:_MANY] if isinstance(value[0], Message) else value
        return [_within(each, depth + 1) for each in shown]
    return value


_HOLDERS = (Message, dict, list, tuple)
