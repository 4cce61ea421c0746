"""Policies of callers as data: what may be said of them in a contract or in settings, read into one flat form.

The flat form maps `retry.attempts`, `breaker.window` … to values; the names are those of `interlock.v1.CallPolicy`.
What is made of it stands in `interlock.resilience.policies`.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, TypeAlias

from protobuf import Message
from protobuf.wkt import Duration

from interlock.contract.effective import duration, timeout
from interlock.contract.gen.interlock.v1.options_pb import CallPolicy
from interlock.contract.names import nearest

Said: TypeAlias = Mapping[str, Any]
"""Some of the `FIELDS`, and perhaps `preset`, with values that were read."""

PRESETS = tuple(each.name.lower() for each in CallPolicy.Preset if each.value)
"""The names of the presets."""
MOST = 1_000_000
"""The largest number of attempts, calls, probes."""
LONGEST = timedelta(hours=24)


def _whole(least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not text.isdecimal() or not least <= int(text) <= MOST:
            raise ValueError(f"{value!r} is no whole number from {least} to {MOST}")
        return int(text)

    return read


def _number(least: float, most: float, *, above: bool = False) -> Callable[[object], float]:
    def read(value: object) -> float:
        try:
            found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
        except ValueError:
            found = None
        if found is None or not least <= found <= most or (above and found == least):
            raise ValueError(f"{value!r} is no number {'above' if above else 'from'} {least:g} up to {most:g}")
        return found

    return read


def _time(least: timedelta) -> Callable[[object], timedelta]:
    def read(value: object) -> timedelta:
        found = value if isinstance(value, timedelta) else duration(value)
        if not least <= found <= LONGEST:
            raise ValueError(f"{value!r} is not from {least.total_seconds():g} s up to 24 h")
        return found

    return read


def _switch(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{value!r} is neither true nor false")
    return text == "true"


_wait, _span = _time(timedelta()), _time(timedelta(milliseconds=1))
_rate = _number(0.0, 1.0, above=True)

FIELDS: Mapping[str, Callable[[object], Any]] = {
    "retry.attempts": _whole(1),
    "retry.base": _wait,
    "retry.cap": _wait,
    "retry.multiplier": _number(1.0, 100.0),
    "retry.longest_pause": _wait,
    "breaker.enabled": _switch,
    "breaker.window": _span,
    "breaker.minimum_calls": _whole(0),
    "breaker.failure_rate": _rate,
    "breaker.consecutive_failures": _whole(0),
    "breaker.open_for": _span,
    "breaker.probes": _whole(1),
    "breaker.slow": _span,
    "breaker.slow_rate": _rate,
    "bulkhead.calls": _whole(0),
    "bulkhead.waiting": _whole(0),
    "bulkhead.wait": _wait,
    "throttle": _switch,
}
"""What can be said, each with what reads it; ValueError for a value that cannot be."""

_IN_SETTINGS = {**FIELDS, "timeout": timeout}
_TOP = tuple(dict.fromkeys(["preset", *(name.partition(".")[0] for name in _IN_SETTINGS)]))


def read_policy(given: object) -> Said:
    """Read what settings say: a preset's name, or a table of `preset`, `timeout` and `FIELDS` by section.

    ValueError names every key and value that cannot be, with the nearest that can.
    """
    if isinstance(given, str):
        given = {"preset": given}
    if not isinstance(given, Mapping):
        raise ValueError(f"{given!r} is no policy; name a preset ({', '.join(PRESETS)}) or write a table")  # noqa: TRY004
    said: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, value in _flat(given, mistakes):
        try:
            said[name] = _preset(value) if name == "preset" else _IN_SETTINGS[name](value)
        except (ValueError, OverflowError) as wrong:
            mistakes.append(f"{name}: {wrong}")
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return said


def _flat(given: Mapping[Any, Any], mistakes: list[str]) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        if key == "preset" or key in _IN_SETTINGS:
            yield key, value
            continue
        inside = [name for name in _IN_SETTINGS if name.startswith(f"{key}.")]
        if not inside:
            mistakes.append(f"{key!r} cannot be set, only {', '.join(_TOP)}{nearest(str(key), _TOP)}")
        elif not isinstance(value, Mapping):
            mistakes.append(f"{key}: {value!r} is no table with {', '.join(n.partition('.')[2] for n in inside)}")
        else:
            for inner, each in value.items():
                if f"{key}.{inner}" in _IN_SETTINGS:
                    yield f"{key}.{inner}", each
                else:
                    known = [name.partition(".")[2] for name in inside]
                    meant = nearest(str(inner), known)
                    mistakes.append(f"{key}.{inner} cannot be set, only {', '.join(known)}{meant}")


def _preset(value: object) -> str:
    if not isinstance(value, str) or value.lower() not in PRESETS:
        raise ValueError(f"{value!r} is none of {', '.join(PRESETS)}{nearest(str(value).lower(), PRESETS)}")
    return value.lower()


def declared_policy(policy: CallPolicy | None, mistakes: list[str] | None = None) -> Said:
    """Return what a contract says; values that cannot be are told in `mistakes`, and left out."""
    said: dict[str, Any] = {}
    if policy is None:
        return said
    if policy.preset:
        said["preset"] = policy.preset.name.lower()
    for name, read in FIELDS.items():
        section, _, field = name.rpartition(".")
        holder: Message[Any] | None = getattr(policy, section) if section else policy
        if holder is None or not holder.has_field(field):
            continue
        value = getattr(holder, field)
        try:
            said[name] = read(value.to_timedelta() if isinstance(value, Duration) else value)
        except ValueError as wrong:
            if mistakes is not None:
                mistakes.append(f"{name}: {wrong}")
    return said
