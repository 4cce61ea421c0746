"""Scalars and well-known messages as JSON Schema: what a reply holds, and the wider forms that a request may have.

Requests may write numbers as texts and enums as numbers, as proto JSON says; replies have one form each.
"""

from typing import Any

from protobuf import ScalarType

from interlock.contract.validation_schema import Schema

_SIGNED_32 = (ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32)
_SIGNED_64 = (ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64)
_UNSIGNED_32 = (ScalarType.UINT32, ScalarType.FIXED32)
_UNSIGNED_64 = (ScalarType.UINT64, ScalarType.FIXED64)
INTEGERS: dict[Any, tuple[str, int, int]] = {
    **dict.fromkeys(_SIGNED_32, ("int32", -(2**31), 2**31 - 1)),
    **dict.fromkeys(_SIGNED_64, ("int64", -(2**63), 2**63 - 1)),
    **dict.fromkeys(_UNSIGNED_32, ("uint32", 0, 2**32 - 1)),
    **dict.fromkeys(_UNSIGNED_64, ("uint64", 0, 2**64 - 1)),
}
"""Format and range of each integer type."""

FLOATS = {ScalarType.DOUBLE: "double", ScalarType.FLOAT: "float"}
_FLOAT_MAX = 3.4028234663852886e38
_WRAPPERS = {
    "DoubleValue": ScalarType.DOUBLE, "FloatValue": ScalarType.FLOAT, "Int32Value": ScalarType.INT32,
    "UInt32Value": ScalarType.UINT32, "Int64Value": ScalarType.INT64, "UInt64Value": ScalarType.UINT64,
    "BoolValue": ScalarType.BOOL, "StringValue": ScalarType.STRING, "BytesValue": ScalarType.BYTES,
}  # fmt: skip
_TEXT: Schema = {"type": "string"}
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)?$"
_BASE64_URL = "^([A-Za-z0-9_-]{4})*([A-Za-z0-9_-]{2}(==)?|[A-Za-z0-9_-]{3}=?)?$"
_WELL_KNOWN: dict[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$", "examples": ["1.5s"]},
    "FieldMask": {"type": "string", "description": "Paths of fields in lowerCamelCase, separated by commas."},
    "Struct": {"type": "object", "additionalProperties": True},
    "Value": {},
    "ListValue": {"type": "array", "items": {}},
    "Any": {"type": "object", "properties": {"@type": _TEXT}, "additionalProperties": True},
    "Empty": {"type": "object"},
}


def reply_scalar(kind: ScalarType) -> Schema:
    """Return the schema of a scalar as replies have it."""
    if kind in INTEGERS:
        name, low, _ = INTEGERS[kind]
        if name.endswith("64"):
            return {"type": "string", "format": name, "pattern": "^[0-9]+$" if low == 0 else "^-?[0-9]+$"}
        return {"type": "integer", "format": name} | ({"minimum": 0} if low == 0 else {})
    if kind in FLOATS:
        return {"type": ["number", "string"], "format": FLOATS[kind], "pattern": "^(NaN|-?Infinity)$"}
    if kind is ScalarType.BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    return {"type": "boolean"} if kind is ScalarType.BOOL else dict(_TEXT)


def request_scalar(kind: ScalarType, rules: Schema, *, textual: bool = True) -> Schema:
    """Return the schema of a scalar as a request may give it, with its rules.

    `textual` is off in path and query, where all is text anyway and the plain type says it best.
    """
    if kind in INTEGERS:
        return _integer(*INTEGERS[kind], rules, textual=textual)
    if kind in FLOATS:
        return _float(kind, rules, textual=textual)
    if kind is ScalarType.BYTES:
        found: Schema = {"type": "string", "contentEncoding": "base64"}
        return {**found, "anyOf": [{"pattern": _BASE64}, {"pattern": _BASE64_URL}]}
    return ({"type": "boolean"} if kind is ScalarType.BOOL else dict(_TEXT)) | rules


def well_known(name: str, *, request: bool, textual: bool = True) -> Schema:
    """Return the schema of a message of `google.protobuf` by its short name."""
    if name in _WRAPPERS:
        kind = _WRAPPERS[name]
        return request_scalar(kind, {}, textual=textual) if request else reply_scalar(kind)
    return dict(_WELL_KNOWN.get(name, {"type": "object"}))


def _integer(name: str, low: int, high: int, rules: Schema, *, textual: bool) -> Schema:
    rules = dict(rules)
    low = max(low, rules.pop("minimum", low), rules.pop("exclusiveMinimum", low - 1) + 1)
    high = min(high, rules.pop("maximum", high), rules.pop("exclusiveMaximum", high + 1) - 1)
    found: Schema = {"type": "integer", "format": name, "minimum": low, "maximum": high}
    if textual and not rules.keys() & {"anyOf", "const", "enum", "not"} and (pattern := _digits(low, high)):
        found = {**found, "type": ["integer", "string"], "pattern": pattern}
    if textual and (values := rules.pop("enum", None) or ([rules.pop("const")] if "const" in rules else None)):
        return {"enum": [form for each in values for form in (each, str(each))], "format": name}
    return found | rules


def _digits(low: int, high: int) -> str:
    """Return a pattern of texts that lie surely within the range: of as many digits as all fit."""
    above, below = len(str(high + 1)) - 1, len(str(1 - low)) - 1
    if low == 1 and above:
        return f"^[1-9][0-9]{{0,{above - 1}}}$" if above > 1 else "^[1-9]$"
    if low > 0 or high < 0 or not above:
        return ""
    if low == 0 or not below:
        return f"^[0-9]{{1,{above}}}$"
    return f"^-?[0-9]{{1,{min(above, below)}}}$"


def _float(kind: ScalarType, rules: Schema, *, textual: bool) -> Schema:
    found: Schema = {"type": "number", "format": FLOATS[kind]}
    if kind is ScalarType.FLOAT:
        found |= {"minimum": -_FLOAT_MAX, "maximum": _FLOAT_MAX}
    if textual and not rules:
        pattern = r"^(NaN|-?Infinity|-?[0-9]{1,15}(\.[0-9]{1,15})?)$"
        found |= {"type": ["number", "string"], "pattern": pattern}
    return found | rules
