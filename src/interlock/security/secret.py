"""Secrets: a type that nothing shows by accident, and where they come from: environment, files, AWS.

A service reads one when it needs it; a rotation is noticed within a minute, without a restart.
"""

import hmac
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeAlias
from weakref import WeakSet

from interlock.call import in_thread
from interlock.security.gauges import Gauges
from interlock.security.renewal import Renewed, Term

EVERY = timedelta(seconds=30)
"""How often a source is looked at again."""
_LARGEST = 64 * 1024


class Secret:
    """A text that only `reveal` gives out: not `repr`, `str`, a format, JSON, pickle, a log or a traceback.

    Two are compared in constant time.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text, for the one place that shows it to whom it is meant for."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return repr(self)

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a hash would be a trace of it

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: it would be in the clear")

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415 - where it is a field of settings

        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, Secret) else Secret(_text(given)),
            serialization=core_schema.plain_serializer_function_ser_schema(repr),
        )


def _text(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError("a secret is a text")  # noqa: TRY004 - what pydantic takes for a wrong value
    return given


class SecretError(Exception):
    """A secret that cannot be had; the text names where it should be, never what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A secret as its source holds it now, and when it was put there (seconds since 1970), where that is known."""

    secret: Secret
    made_at: float | None = None


SecretSource: TypeAlias = Callable[[], Awaitable[Reading]]
"""Reads a secret; `SecretError` where there is none."""


def from_environment(name: str) -> SecretSource:
    """Return the source of the environment variable `name`, which does not change while a process lives."""

    async def read() -> Reading:
        value = os.environ.get(name)
        if not value:
            raise SecretError(f"the environment variable {name} is not set, and a secret should be in it")
        return Reading(secret=Secret(value))

    return read


def from_file(path: Path | str) -> SecretSource:
    """Return the source of a file: its text without the line end, at most 64 KiB.

    Symbolic links are followed, as container mounts swap them.
    """
    place = Path(path)

    def read_now() -> Reading:
        try:
            with place.open("rb") as file:
                content = file.read(_LARGEST + 1)
                made_at = os.fstat(file.fileno()).st_mtime
        except OSError as error:
            raise SecretError(f"the secret in {place} cannot be read: {error.strerror}") from None
        if not content.strip() or len(content) > _LARGEST:
            raise SecretError(f"the secret in {place} is empty, or larger than {_LARGEST} bytes")
        try:
            text = content.decode()
        except UnicodeDecodeError:
            raise SecretError(f"the secret in {place} is no text in UTF-8") from None
        return Reading(secret=Secret(text.rstrip("\r\n")), made_at=made_at)

    async def read() -> Reading:
        return await in_thread(read_now)

    return read


def from_directory(directory: Path | str, name: str) -> SecretSource:
    """Return the source of the file `name` in a directory of secrets; SecretError for a name that leads elsewhere."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise SecretError(f"{name!r} is no name of a secret in {directory}")
    return from_file(Path(directory) / name)


def from_aws(name: str, *, field: str = "", region: str | None = None, endpoint: str | None = None) -> SecretSource:
    """Return the source of a secret in AWS Secrets Manager; `field` picks a member where it is a JSON object.

    Needs `interlock[aws]`; credentials come from where boto3 finds them. ImportError without it.
    """
    try:
        import boto3  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError("AWS Secrets Manager needs boto3: install interlock[aws]") from missing
    client: Any = None

    def read_now() -> Reading:
        nonlocal client
        if client is None:
            client = boto3.client("secretsmanager", region_name=region, endpoint_url=endpoint)
        try:
            found = client.get_secret_value(SecretId=name)
            text = found["SecretString"]
            value = json.loads(text)[field] if field else text
            made_at = found["CreatedDate"].timestamp()
        except Exception as error:  # botocore's errors have no common root, and the text of JSON's holds the secret
            raise SecretError(f"the secret {name} cannot be had of AWS: {type(error).__name__}") from None
        if not isinstance(value, str) or not value:
            raise SecretError(f"the secret {name} of AWS is empty or no text")
        return Reading(secret=Secret(value), made_at=made_at)

    async def read() -> Reading:
        return await in_thread(read_now)

    return read


def secret_source(place: str) -> SecretSource:
    """Return the source that a text in the settings names; ValueError for another.

    `env:NAME`, `file:PATH`, or `aws:NAME`, which may end in `#FIELD`.
    """
    kind, _, rest = place.partition(":")
    if kind == "env" and rest:
        return from_environment(rest)
    if kind == "file" and rest:
        return from_file(rest)
    if kind == "aws" and rest:
        name, _, member = rest.partition("#")
        return from_aws(name, field=member)
    raise ValueError("a secret is named env:NAME, file:PATH or aws:NAME, which may end in #FIELD")


class WatchedSecret:
    """A secret that is read when it is first asked for, and looked at again every 30 s while it is used.

    While its source fails the last one is given out. Its age is a metric under its name. Belongs to one event loop.
    """

    def __init__(
        self,
        source: SecretSource,
        name: str = "a secret",
        *,
        every: timedelta = EVERY,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._every = every.total_seconds()
        self._now = now
        self._made_at: float | None = None
        self._last: Secret | None = None
        self._renewed = Renewed(self._read, name, now=now)
        self._name = name
        _watched.add(self)

    async def get(self) -> Secret:
        """Return the secret; SecretError where there never was one."""
        return await self._renewed.get()

    async def refresh(self) -> None:
        """Look at once, for it was refused; not twice in 10 s."""
        await self._renewed.refresh()

    @property
    def age(self) -> float:
        """Seconds since it was put where it is, or, where that does not say, since it was seen to change; 0 before."""
        return self._now() - self._made_at if self._made_at is not None else 0.0

    async def _read(self) -> Term[Secret]:
        reading = await self._source()
        if reading.secret != self._last or reading.made_at is not None:
            self._made_at = reading.made_at if reading.made_at is not None else self._now()
        self._last = reading.secret
        return Term(value=reading.secret, renew_in=self._every)


_watched: WeakSet[WatchedSecret] = WeakSet()


def secrets_measured(metrics: Gauges) -> None:
    """Show the age of every secret that this process watches and has read as a metric, by its name."""
    metrics.gauge("service_secret_age_seconds", "Age of a watched secret.", _ages, labels=("secret",), merge="max")


def _ages() -> dict[tuple[str, ...], float]:
    found: dict[tuple[str, ...], float] = {}
    for each in tuple(_watched):
        if each._last is not None:
            found[each._name,] = max(each.age, found.get((each._name,), 0.0))
    return found
