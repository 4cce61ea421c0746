"""The rules of `buf.validate` that JSON Schema can say, as its keywords."""

from typing import Any

from protobuf import DescField, Message
from protovalidate._gen.buf.validate.validate_pb import FieldRules, ext_field

Schema = dict[str, Any]

_KEYWORDS = {
    "min_len": "minLength", "max_len": "maxLength", "pattern": "pattern", "gt": "exclusiveMinimum", "gte": "minimum",
    "lt": "exclusiveMaximum", "lte": "maximum", "min_items": "minItems", "max_items": "maxItems",
    "unique": "uniqueItems", "min_pairs": "minProperties", "max_pairs": "maxProperties", "const": "const",
}  # fmt: skip
_FORMATS = {
    "email": "email", "hostname": "hostname", "ipv4": "ipv4", "ipv6": "ipv6", "uri": "uri",
    "uri_ref": "uri-reference", "uuid": "uuid",
}  # fmt: skip
_NUMBERS = frozenset(
    ("int32", "int64", "uint32", "uint64", "sint32", "sint64", "fixed32", "fixed64", "sfixed32", "sfixed64", "float",
     "double")
)  # fmt: skip


def rules_of(field: DescField) -> FieldRules | None:
    """Return the field's rules, None where it has none."""
    options = field.proto.options
    return options[ext_field] if options is not None and ext_field in options else None


def is_required(field: DescField) -> bool:
    """Tell whether a rule demands the field."""
    rules = rules_of(field)
    return rules is not None and rules.required


def keywords(rules: FieldRules) -> Schema:
    """Return the keywords for a value; a list's hold those of its elements under `items`, a map's its values'.

    What has no keyword (CEL, rules of bytes, times and durations) is left out.
    """
    if rules.type is None:
        return {}
    kind, inner = rules.type.field, rules.type.value
    if kind == "string" or kind in _NUMBERS:
        return _scalar(inner)
    if kind == "repeated":
        found = _plain(inner, ("min_items", "max_items", "unique"))
        return _with(found, "items", getattr(inner, "items", None))
    if kind == "map":
        found = _with(_plain(inner, ("min_pairs", "max_pairs")), "additionalProperties", getattr(inner, "values", None))
        return _with(found, "propertyNames", getattr(inner, "keys", None))
    return {}


def _with(found: Schema, name: str, rules: FieldRules | None) -> Schema:
    if rules is not None and (inner := keywords(rules)):
        found[name] = inner
    return found


def _plain(rules: Message[Any], names: tuple[str, ...]) -> Schema:
    return {_KEYWORDS[field.name]: rules[field] for field in rules if field.name in names}


def _scalar(rules: Message[Any]) -> Schema:
    found: Schema = {}
    for field in rules:
        name, value = field.name, rules[field]
        if name in _KEYWORDS:
            found[_KEYWORDS[name]] = value
        elif name == "len":
            found["minLength"] = found["maxLength"] = value
        elif name == "in":
            found["enum"] = list(value)
        elif name in _FORMATS and value is True:
            found["format"] = _FORMATS[name]
    if "exclusiveMinimum" in found or "minimum" in found:
        _drop_outside(found)
    return found


def _drop_outside(found: Schema) -> None:
    """Drop bounds that mean "outside of" (greater than the upper one): JSON Schema would say "never"."""
    low = found.get("minimum", found.get("exclusiveMinimum"))
    high = found.get("maximum", found.get("exclusiveMaximum"))
    if low is not None and high is not None and high < low:
        for name in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
            found.pop(name, None)
