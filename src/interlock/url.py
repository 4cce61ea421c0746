"""URLs that may hold a password: a type that shows where it leads, and not what opens it."""

import re
from typing import Any, NoReturn

_CREDENTIALS = re.compile(r"(?:(?<=//)|^(?!(?:[\w+.-]+:)?//))([^:@]*:(?!@))?.*@", re.DOTALL)
_PARAMETER = re.compile(r"(?i)((?:^|[?&;#\s])[\w.%+-]*(?:pass|pwd|secret|token|key|sig|cred|auth)[\w.%+-]*=)[^&]*")


def shown(url: str) -> str:
    """Return a URL for people: without its password, a user that has none (a token), and secret parameters.

    A password that is not percent-encoded may hold anything: all up to the last `@` is taken for it, also where the
    scheme was forgotten, and a secret parameter lasts until the next `&`.
    """
    return _PARAMETER.sub(r"\1…", _CREDENTIALS.sub(r"\1…@", url))


class Url:
    """A URL, or a path that stands for one; only `reveal` gives out all of it.

    `str`, `repr`, formats, JSON and tracebacks have what `shown` leaves of it; it is not pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the whole text, for what connects."""
        return self._value

    def __str__(self) -> str:
        return shown(self._value)

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Url) and self._value == other._value

    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of it

    def __copy__(self) -> "Url":
        return self

    def __deepcopy__(self, _memo: object) -> "Url":
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Url is not pickled: its password would be in the clear")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - where it is a field of settings

        return core_schema.no_info_plain_validator_function(
            _taken, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def _taken(given: object) -> Url:
    if isinstance(given, Url):
        return given
    if not isinstance(given, str):
        raise ValueError("a URL is a text")  # noqa: TRY004 - what pydantic takes for a wrong value
    return Url(given)
