"""The service that is checked, and what a probe saw of it."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.standards.live.exchange import Answer, exchange

PLACEHOLDER = "interlock-check"
"""What stands in paths where an id belongs; no resource is called so."""

_VARIABLE = re.compile(r"\{[^}]*\}")
_VERBS = ("get", "put", "post", "delete", "patch")


class NoAnswer(OSError):
    """A request that got no answer; `source` names it, `late` whether the time ran out."""

    def __init__(self, verb: str, path: str, cause: OSError) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.source = Source(f"{verb} {path}")
        self.late = isinstance(cause, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of an OpenAPI document."""

    verb: str
    path: str
    secured: bool
    query: frozenset[str]
    takes_json: bool

    @property
    def filled(self) -> str:
        """The path with a placeholder for each variable."""
        return _VARIABLE.sub(PLACEHOLDER, self.path)

    @property
    def plain(self) -> bool:
        """Whether the path has no variables."""
        return "{" not in self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running service: where it is, what its OpenAPI document says, and what is needed to be let in.

    `token` opens its operations; `keys` is a directory of signing keys that the service trusts, `authorities` a PEM
    file that verifies its certificate. `timeout` bounds each exchange, in seconds.
    """

    url: str
    document: Mapping[str, Any] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    keys: Path | None = None
    authorities: Path | None = None
    timeout: float = 5.0

    @property
    def address(self) -> str:
        """`host:port`, as a gRPC client takes it."""
        parts = urlsplit(self.url)
        return parts.netloc if parts.port else f"{parts.netloc}:{443 if self.secure else 80}"

    @property
    def secure(self) -> bool:
        """Whether it speaks TLS."""
        return urlsplit(self.url).scheme == "https"

    @property
    def routes(self) -> tuple[Route, ...]:
        """The operations of its OpenAPI document, those without variables in their path first."""
        return tuple(sorted(_routes(self.document), key=lambda each: not each.plain))

    @property
    def bearer(self) -> dict[str, str]:
        """The headers that show the token, where there is one."""
        return {"authorization": f"Bearer {self.token}"} if self.token else {}

    async def send(
        self,
        verb: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        declared: int | None = None,
    ) -> Answer:
        """Send one request on a connection of its own; NoAnswer if none comes.

        `declared` is the content-length told, where that is more than is sent.
        """
        work = partial(
            exchange,
            self.url,
            verb,
            path,
            headers or {},
            body,
            declared=declared,
            authorities=self.authorities,
            timeout=self.timeout,
        )
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise NoAnswer(verb, path, error) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a probe found, and in `notes` what it could not see; `checked` is False where it saw nothing at all."""

    breaches: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()
    checked: bool = True


def unseen(*notes: str) -> Observed:
    """Return that nothing could be checked, and why."""
    return Observed(notes=notes, checked=False)


def _routes(document: Mapping[str, Any]) -> Iterator[Route]:
    everywhere = document.get("security") or []
    for path, item in _items(document.get("paths")):
        for verb in _VERBS:
            operation = item.get(verb)
            if not isinstance(operation, dict):
                continue
            security = operation.get("security", everywhere)
            given = [*_list(item.get("parameters")), *_list(operation.get("parameters"))]
            content = (operation.get("requestBody") or {}).get("content") or {}
            yield Route(
                verb=verb.upper(),
                path=path,
                secured=bool(security) and {} not in security,
                query=frozenset(each["name"] for each in given if each.get("in") == "query"),
                takes_json="application/json" in content,
            )


def _items(found: object) -> list[tuple[str, dict[str, Any]]]:
    return [(path, item) for path, item in found.items() if isinstance(item, dict)] if isinstance(found, dict) else []


def _list(found: object) -> list[dict[str, Any]]:
    return [each for each in found if isinstance(each, dict) and "name" in each] if isinstance(found, list) else []
