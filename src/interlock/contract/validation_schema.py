"""The rules of `buf.validate` that JSON Schema can say, as its keywords; the others named, for an extension."""

import re
from collections.abc import Iterator
from typing import Any

from protobuf import DescField, DescMessage, Message
from protovalidate._gen.buf.validate.validate_pb import FieldRules, Ignore, ext_field, ext_message

Schema = dict[str, Any]

_KEYWORDS = {
    "min_len": "minLength", "max_len": "maxLength", "gt": "exclusiveMinimum", "gte": "minimum",
    "lt": "exclusiveMaximum", "lte": "maximum", "min_items": "minItems", "max_items": "maxItems",
    "unique": "uniqueItems", "min_pairs": "minProperties", "max_pairs": "maxProperties", "const": "const",
    "max_bytes": "maxLength",
}  # fmt: skip
_FORMATS = {
    "email": "email", "hostname": "hostname", "ipv4": "ipv4", "ipv6": "ipv6", "uri": "uri",
    "uri_ref": "uri-reference", "uuid": "uuid",
}  # fmt: skip
_ANY_FORMAT = {"ip": ("ipv4", "ipv6"), "address": ("hostname", "ipv4", "ipv6")}
_PATTERNS = {
    "tuuid": "^[0-9a-fA-F]{32}$",
    "ulid": "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$",
    "protobuf_fqn": r"^[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$",
    "protobuf_dot_fqn": r"^\.[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*$",
}
_ONLY_RE2 = re.compile(r"\(\?(?![:=!])|\\[ACQzpPaC]|\\x\{|\[\[:|\[\^?\[:")
_PARTLY = frozenset(("max_bytes",))  # a keyword says some of it
_SILENT = frozenset(("example", "strict", "finite", "items", "keys", "values", "defined_only"))
NUMBERS = frozenset(
    ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64", "float",
     "double")
)  # fmt: skip


def rules_of(field: DescField) -> FieldRules | None:
    """Return the field's rules, None where it has none or they are never looked at."""
    options = field.proto.options
    rules = options[ext_field] if options is not None and ext_field in options else None
    return None if rules is None or rules.ignore is Ignore.ALWAYS else rules


def is_required(field: DescField) -> bool:
    """Tell whether a rule demands the field."""
    rules = rules_of(field)
    return rules is not None and rules.required


def keywords(rules: FieldRules) -> Schema:
    """Return the keywords for a value; a list's hold those of its elements under `items`, a map's its values'.

    What has no keyword (CEL, rules of bytes, times and durations) is what `unsaid` tells.
    """
    found = _typed(rules)
    if rules.required:
        _not_empty(found, rules)
    return found


def _typed(rules: FieldRules) -> Schema:
    if rules.type is None:
        return {}
    kind, inner = rules.type.field, rules.type.value
    if kind == "string" or kind in NUMBERS or kind == "bool":
        return _scalar(inner)
    if kind == "repeated":
        found = _plain(inner, ("min_items", "max_items", "unique"))
        return _with(found, "items", getattr(inner, "items", None))
    if kind == "map":
        found = _with(_plain(inner, ("min_pairs", "max_pairs")), "additionalProperties", getattr(inner, "values", None))
        return _with(found, "propertyNames", getattr(inner, "keys", None))
    return {}


def _not_empty(found: Schema, rules: FieldRules) -> None:
    """Say that a value is there: what has no presence must not be its zero value."""
    least = {"string": "minLength", "repeated": "minItems", "map": "minProperties"}
    kind = rules.type.field if rules.type is not None else ""
    if kind in least:
        found[least[kind]] = max(1, found.get(least[kind], 1))


def _with(found: Schema, name: str, rules: FieldRules | None) -> Schema:
    if rules is not None and (inner := keywords(rules)):
        found[name] = inner
    return found


def _plain(rules: Message[Any], names: tuple[str, ...]) -> Schema:
    return {_KEYWORDS[field.name]: rules[field] for field in rules if field.name in names}


def _scalar(rules: Message[Any]) -> Schema:
    found: Schema = {}
    patterns: list[str] = []
    for field in rules:
        name, value = field.name, rules[field]
        if name in _KEYWORDS:
            found[_KEYWORDS[name]] = min(value, found.get("maxLength", value)) if "max_" in name else value
        elif name == "len":
            found["minLength"] = found["maxLength"] = value
        elif name == "in":
            found["enum"] = list(value)
        elif name == "not_in":
            found["not"] = {"enum": list(value)}
        elif value is True and name in _FORMATS:
            found["format"] = _FORMATS[name]
        elif value is True and name in _ANY_FORMAT:
            found["anyOf"] = [{"format": each} for each in _ANY_FORMAT[name]]
        elif (pattern := _pattern(name, value)) is not None:
            patterns.append(pattern)
    if patterns:
        found["pattern"] = patterns[0]
    if patterns[1:]:
        found["allOf"] = [{"pattern": each} for each in patterns[1:]]
    _turn_outside(found)
    return found


def _pattern(name: str, value: Any) -> str | None:
    """Return the pattern that says a rule, in what RE2 and ECMA-262 have in common; None where there is none."""
    if name == "pattern":
        return None if _ONLY_RE2.search(value) else str(value)
    if value is True:
        return _PATTERNS.get(name)
    if name == "prefix":
        return f"^{_literal(value)}"
    if name == "suffix":
        return f"{_literal(value)}$"
    if name == "contains":
        return _literal(value)
    return f"^(?!.*{_literal(value)})" if name == "not_contains" else None


def _literal(text: str) -> str:
    return re.sub(r"([\\^$.|?*+()\[\]{}/])", r"\\\1", text)


def _turn_outside(found: Schema) -> None:
    """Say bounds that mean "outside of" (greater than the upper one) as two ranges."""
    low_name = "minimum" if "minimum" in found else "exclusiveMinimum"
    high_name = "maximum" if "maximum" in found else "exclusiveMaximum"
    if low_name in found and high_name in found and found[high_name] < found[low_name]:
        found["anyOf"] = [{low_name: found.pop(low_name)}, {high_name: found.pop(high_name)}]


def unsaid(rules: FieldRules) -> Iterator[Schema]:
    """Yield what no keyword says: CEL rules with their message, others by name and value."""
    yield from cel(rules)
    if rules.type is None:
        return
    kind, inner = rules.type.field, rules.type.value
    for field in inner:
        name = field.name
        if name in _SILENT or (_is_said(kind, name, inner[field]) and name not in _PARTLY):
            continue
        yield {"id": f"{kind}.{name}", "value": _plainly(inner[field])}


def _is_said(kind: str, name: str, value: Any) -> bool:
    if kind in ("repeated", "map"):
        return True
    if kind == "enum":
        return name in ("const", "in", "not_in")
    if kind not in NUMBERS and kind not in ("string", "bool"):
        return False
    known = name in _KEYWORDS or name in ("len", "in", "not_in") or name in _FORMATS or name in _ANY_FORMAT
    return known or value is False or _pattern(name, value) is not None


def _plainly(value: Any) -> Any:
    """Return a rule's value as JSON has it."""
    if isinstance(value, Message):
        return value.to_json().strip('"')
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int | float | str):
        return value
    return [_plainly(each) for each in value]


def message_rules(message: DescMessage) -> Iterator[Schema]:
    """Yield the CEL rules of a whole message."""
    options = message.proto.options
    if options is not None and ext_message in options:
        yield from cel(options[ext_message])


def cel(rules: Any) -> Iterator[Schema]:
    """Yield the CEL rules of a field or message."""
    for each in rules.cel:
        said = {"id": each.id, "message": each.message, "expression": each.expression}
        yield {name: value for name, value in said.items() if value}
    for each in rules.cel_expression:
        yield {"expression": each}
