"""What a KEYED call was answered, in the form in which it is stored. No SQL here: layers import it and stay light."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from interlock.errors import Error, Violation, error_class

_LONGEST = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which call an answer is of: operation, who called (at most 255 characters, else their hash), and their key."""

    operation: str
    caller: str
    key: str

    def __post_init__(self) -> None:
        if len(self.caller) > _LONGEST:
            object.__setattr__(self, "caller", blake2b(self.caller.encode(), digest_size=32).hexdigest())

    def __str__(self) -> str:
        return f"{self.operation}|{self.caller}|{self.key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to answer: of one call at a time for each identity; `token` tells it from a later one."""

    identity: Identity
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply in binary, or an error, with the headers that the handler set."""

    reply: bytes = b""
    error: Error | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()

    def to_bytes(self) -> bytes:
        """Return the stored form: a JSON head with its length before it, then the reply."""
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]
        head = json.dumps({"headers": headers, "error": _written(self.error)}, separators=(",", ":")).encode()
        return len(head).to_bytes(4) + head + self.reply

    @classmethod
    def from_bytes(cls, data: bytes) -> "Answer":
        """Read the stored form."""
        end = 4 + int.from_bytes(data[:4])
        head = json.loads(data[4:end])
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
        return cls(reply=data[end:], error=_read(head["error"]), headers=headers)


def _written(error: Error | None) -> dict[str, object] | None:
    if error is None:
        return None
    return {
        "code": int(error.code),
        "rest": error.rest_code,
        "message": error.message,
        "reason": error.reason,
        "domain": error.domain,
        "violations": [[each.field, each.description] for each in error.violations],
        "retry_after": error.retry_after.total_seconds() if error.retry_after is not None else None,
        "metadata": [
            [name, value.hex() if isinstance(value, bytes) else value, isinstance(value, bytes)]
            for name, value in error.metadata
        ],
    }


def _read(written: dict[str, Any] | None) -> Error | None:
    if written is None:
        return None
    after = written["retry_after"]
    return error_class(written["code"], written["rest"])(
        written["message"],
        reason=written["reason"],
        violations=[Violation(field=field, description=text) for field, text in written["violations"]],
        retry_after=timedelta(seconds=after) if after is not None else None,
        metadata=[(name, bytes.fromhex(value) if binary else value) for name, value, binary in written["metadata"]],
        domain=written["domain"],
    )
