"""Messages as JSON Schema 2020-12 in the form that REST gives them: proto names, proto JSON's scalars."""

import json
from collections.abc import Collection, Mapping
from typing import Any

from protobuf import DescEnum, DescField, DescFieldValueList, DescFieldValueMap, DescMessage, ScalarType

from interlock.contract.gen.google.api.field_behavior_pb import FieldBehavior
from interlock.contract.gen.interlock.v1.options_pb import ext_field
from interlock.contract.rest_shape import WELL_KNOWN, behaviors, element_of
from interlock.contract.validation_schema import Schema, is_required, keywords, rules_of

_LONG: Schema = {"type": ["string", "integer"], "format": "int64", "pattern": "^-?[0-9]+$"}
_UNSIGNED_LONG: Schema = {"type": ["string", "integer"], "format": "uint64", "pattern": "^[0-9]+$"}
_INT: Schema = {"type": "integer", "format": "int32"}
_UNSIGNED_INT: Schema = {"type": "integer", "format": "uint32", "minimum": 0}
_TEXT: Schema = {"type": "string"}
_SCALARS: dict[Any, Schema] = {
    ScalarType.DOUBLE: {"type": "number", "format": "double"},
    ScalarType.FLOAT: {"type": "number", "format": "float"},
    ScalarType.BOOL: {"type": "boolean"},
    ScalarType.STRING: _TEXT,
    ScalarType.BYTES: {"type": "string", "contentEncoding": "base64"},
    **dict.fromkeys((ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32), _INT),
    **dict.fromkeys((ScalarType.UINT32, ScalarType.FIXED32), _UNSIGNED_INT),
    **dict.fromkeys((ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64), _LONG),
    **dict.fromkeys((ScalarType.UINT64, ScalarType.FIXED64), _UNSIGNED_LONG),
}
_WELL_KNOWN: dict[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{0,9})?s$", "examples": ["1.5s"]},
    "FieldMask": {"type": "string", "description": "Paths of fields, separated by commas."},
    "Struct": {"type": "object", "additionalProperties": True},
    "Value": {},
    "ListValue": {"type": "array", "items": {}},
    "Any": {"type": "object", "properties": {"@type": _TEXT}, "additionalProperties": True},
    "Empty": {"type": "object"},
    "DoubleValue": _SCALARS[ScalarType.DOUBLE],
    "FloatValue": _SCALARS[ScalarType.FLOAT],
    "Int32Value": _INT,
    "UInt32Value": _UNSIGNED_INT,
    "Int64Value": _LONG,
    "UInt64Value": _UNSIGNED_LONG,
    "BoolValue": _SCALARS[ScalarType.BOOL],
    "StringValue": _TEXT,
    "BytesValue": _SCALARS[ScalarType.BYTES],
}
_KEY_PATTERNS = {ScalarType.BOOL: "^(true|false)$", ScalarType.STRING: ""}
_LONGS = frozenset(("int64", "uint64"))


class Schemas:
    """The component schemas of one document, each made when something first refers to it."""

    def __init__(self, comments: Mapping[str, str], reserved: Collection[str] = ()) -> None:
        self.components: dict[str, Schema] = {}
        self._comments = comments
        self._names: dict[str, str] = {}
        self._taken = set(reserved)

    def message(self, message: DescMessage) -> Schema:
        """Return a message's schema: a reference, or its own form for the well-known ones."""
        if message.type_name.startswith(WELL_KNOWN):
            return dict(_WELL_KNOWN.get(message.type_name.removeprefix(WELL_KNOWN), {"type": "object"}))
        name = self._names.get(message.type_name)
        if name is None:
            name = self._name(message.type_name, message.file.proto.package)
            self.components[name] = {}  # first, for messages may recurse; its place in the order is taken too
            self.components[name] = self.fields_of(message)
        return {"$ref": f"#/components/schemas/{name}"}

    def fields_of(self, message: DescMessage, without: Collection[str] = ()) -> Schema:
        """Return the object schema of a message itself, but for the fields named in `without`."""
        fields = [each for each in message.fields if each.name not in without]
        schema: Schema = {"type": "object"}
        oneofs = [f"At most one of {', '.join(each.name for each in oneof.fields)}." for oneof in message.oneofs]
        if text := "\n\n".join(filter(None, (self._comments.get(message.type_name, ""), *oneofs))):
            schema["description"] = text
        schema["properties"] = {each.name: self.field(each) for each in fields}
        required = [each.name for each in fields if is_wanted(each)]
        if required:
            schema["required"] = required
        if message.deprecated:
            schema["deprecated"] = True
        return schema

    def field(self, field: DescField) -> Schema:
        """Return a field's schema, with its rules, comment and example."""
        element = self._element(element_of(field))
        if isinstance(field.value, DescFieldValueList):
            schema: Schema = {"type": "array", "items": element}
        elif isinstance(field.value, DescFieldValueMap):
            schema = {"type": "object", "additionalProperties": element}
            if pattern := _KEY_PATTERNS.get(field.value.key, "^-?[0-9]+$"):
                schema["propertyNames"] = {"pattern": pattern}
        else:
            schema = element
        rules = rules_of(field)
        if rules is not None:
            schema = _merged(schema, keywords(rules))
        return schema | self._facts(field)

    def _facts(self, field: DescField) -> Schema:
        facts: Schema = {}
        if text := self._comments.get(f"{field.parent.type_name}.{field.name}"):
            facts["description"] = text
        said = behaviors(field)
        if FieldBehavior.OUTPUT_ONLY in said:
            facts["readOnly"] = True
        if FieldBehavior.INPUT_ONLY in said:
            facts["writeOnly"] = True
        if field.deprecated:
            facts["deprecated"] = True
        options = field.proto.options
        if options is not None and ext_field in options and (example := options[ext_field].example):
            facts["examples"] = [_json_or_text(example)]
        return facts

    def _element(self, element: Any) -> Schema:
        if isinstance(element, DescMessage):
            return self.message(element)
        return self._enum(element) if isinstance(element, DescEnum) else dict(_SCALARS[element])

    def _enum(self, enum: DescEnum) -> Schema:
        if enum.type_name == WELL_KNOWN + "NullValue":
            return {"type": "null"}
        name = self._names.get(enum.type_name)
        if name is None:
            name = self._name(enum.type_name, enum.file.proto.package)
            lines = [self._comments.get(enum.type_name, "")]
            lines += [
                f"- `{each.name}`: {text}"
                for each in enum.values
                if (text := self._comments.get(f"{enum.type_name}.{each.name}"))
            ]
            schema: Schema = {"type": "string", "enum": [each.name for each in enum.values]}
            if text := "\n".join(filter(None, lines)):
                schema["description"] = text
            self.components[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}

    def _name(self, type_name: str, package: str) -> str:
        short = type_name.removeprefix(f"{package}.") if package else type_name
        name = type_name if short in self._taken else short
        self._taken.add(name)
        self._names[type_name] = name
        return name


def is_wanted(field: DescField) -> bool:
    """Tell whether a request must have the field."""
    return FieldBehavior.REQUIRED in behaviors(field) or is_required(field)


def _merged(schema: Schema, rules: Schema) -> Schema:
    merged = dict(schema)
    for name, value in rules.items():
        if isinstance(value, dict) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        elif name in ("enum", "const") and merged.get("format") in _LONGS:
            values = value if isinstance(value, list) else [value]
            merged["enum"] = [form for each in values for form in (str(each), each)]
        else:
            merged[name] = value
    return merged


def _json_or_text(example: str) -> Any:
    try:
        return json.loads(example)
    except ValueError:
        return example
