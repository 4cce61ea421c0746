"""How dead letters are printed: a line each, whole, and as JSON."""

import json
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from interlock.events.broker import DeadLetter
from interlock.events.envelope import to_attributes

_CAUSE = 100


def described(letter: DeadLetter, contract: str = "") -> dict[str, Any]:
    """Return a letter as JSON; with a `contract` (as commands take it) that knows its message, the data decoded."""
    found: dict[str, Any] = {
        "id": letter.id,
        "group": letter.group,
        "code": letter.code,
        "cause": letter.cause,
        "attempts": letter.attempts,
        "at": letter.at.isoformat(),
        "traceparent": letter.traceparent,
        "attempt_id": letter.envelope.attempt_id,
        "event": to_attributes(letter.envelope),
    }
    message = _decoded(letter, contract) if contract else None
    if message is not None:
        found["data"] = message
    return found | {"data_base64": b64encode(letter.envelope.data).decode()}


def as_table(letters: Iterable[DeadLetter]) -> str:
    """Return a line for each letter, the id first, so that it can be cut out."""
    rows = [
        (
            each.id,
            each.envelope.type,
            each.envelope.partition_key,
            each.at.strftime("%Y-%m-%d %H:%M:%S"),
            str(each.attempts),
            each.code,
            _line(each.cause),
        )
        for each in letters
    ]
    rows.insert(0, ("ID", "TYPE", "KEY", "GIVEN UP (UTC)", "ATTEMPTS", "CODE", "CAUSE"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    return "\n".join("  ".join((*map(str.ljust, row[:-1], widths), row[-1])) for row in rows)


def as_text(facts: dict[str, Any]) -> str:
    """Return what `described` found, a fact a line."""
    lines = [f"{name:<12}{value}" for name, value in facts.items() if isinstance(value, str | int) and value != ""]
    lines += [f"  {name:<16}{value}" for name, value in facts["event"].items()]
    if "data" in facts:
        lines.append(json.dumps(facts["data"], indent=2, ensure_ascii=False))
    return "\n".join(lines)


def _decoded(letter: DeadLetter, contract: str) -> Any:
    """Return the event's message as JSON with the contract's names, or None where no contract here knows it."""
    from interlock.contract.find import find_image
    from interlock.contract.load import load

    try:
        events = {each.type: each for each in load(find_image(contract, Path.cwd())).events}
        message = events[letter.envelope.type].message_type.from_binary(letter.envelope.data)
        return json.loads(message.to_json(use_proto_field_name=True))
    except Exception:  # whatever keeps the data from being read, the letter is shown
        return None


def _line(cause: str) -> str:
    text = " ".join(cause.split())
    return text if len(text) <= _CAUSE else text[: _CAUSE - 1] + "…"
