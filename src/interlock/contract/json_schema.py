"""Messages as JSON Schema 2020-12 in the form that REST gives them: proto names, proto JSON's scalars.

A message has up to three forms: `Order` in replies, `OrderInput` in requests, `OrderPatch` where what is absent stays.
"""

import json
from collections.abc import Collection, Mapping
from enum import Enum
from functools import cache
from itertools import combinations as pairs
from typing import Any

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueList,
    DescFieldValueMap,
    DescMessage,
    DescOneof,
    ScalarType,
)
from protovalidate import Validator
from protovalidate._gen.buf.validate.validate_pb import FieldRules, Ignore, ext_oneof

from interlock.contract.gen.google.api.field_behavior_pb import FieldBehavior
from interlock.contract.gen.interlock.v1.options_pb import FieldOptions, ext_field
from interlock.contract.json_scalars import reply_scalar, request_scalar, well_known
from interlock.contract.rest_shape import (
    WELL_KNOWN,
    behaviors,
    element_of,
    plain_message_of,
)
from interlock.contract.validation_schema import Schema, is_required, keywords, message_rules, rules_of, unsaid

RULES = "x-interlock-rules"
_KEY_PATTERNS = {ScalarType.BOOL: "^(true|false)$", ScalarType.STRING: ""}
_IMPLICIT = 2  # SupportedFieldPresence.IMPLICIT: always there in a reply


class Form(Enum):
    """For what a schema is, with what that adds to the names of those messages that have another form too."""

    REPLY = ""
    INPUT = "Input"
    PATCH = "Patch"


class Schemas:
    """The component schemas of one document, each made when something first refers to it.

    `replied` are the full names of messages that stand in replies: their form there has the plain name.
    """

    def __init__(
        self, comments: Mapping[str, str], *, replied: Collection[str] = (), reserved: Collection[str] = ()
    ) -> None:
        self.components: dict[str, Schema] = {}
        self._comments = comments
        self._replied = replied
        self._names: dict[tuple[str, Form], str] = {}
        self._taken = set(reserved)

    def message(self, message: DescMessage, form: Form = Form.REPLY, *, textual: bool = True) -> Schema:
        """Return a message's schema: a reference, or its own form for the well-known ones."""
        if message.type_name.startswith(WELL_KNOWN):
            name = message.type_name.removeprefix(WELL_KNOWN)
            return well_known(name, request=form is not Form.REPLY, textual=textual)
        name = self._names.get((message.type_name, form), "")
        if not name:
            name = self._name(message.type_name, message.file.proto.package, form)
            self.components[name] = {}  # first, for messages may recurse; its place in the order is taken too
            self.components[name] = self.fields_of(message, form)
        return {"$ref": f"#/components/schemas/{name}"}

    def fields_of(self, message: DescMessage, form: Form, without: Collection[str] = ()) -> Schema:
        """Return the object schema of a message itself, but for the fields named in `without`."""
        fields = [each for each in message.fields if each.name not in without]
        needed = needed_fields(message)
        schema: Schema = {"type": "object"}
        oneofs = [
            f"{'One' if each.name in needed else 'At most one'} of {', '.join(field.name for field in each.fields)}."
            for each in message.oneofs
        ]
        if text := "\n\n".join(filter(None, (self._comments.get(message.type_name, ""), *oneofs))):
            schema["description"] = text
        schema["properties"] = {each.name: self.field(each, form) for each in fields}
        if required := [each.name for each in fields if _is_there(each, form, needed)]:
            schema["required"] = required
        if form is Form.REPLY:
            return schema | ({"deprecated": True} if message.deprecated else {})
        schema["additionalProperties"] = False
        demanded = [each for each in message.oneofs if each.name in needed and form is Form.INPUT]
        schema |= _one_of_each(demanded, [each for each in message.oneofs if each not in demanded])
        if rules := list(message_rules(message)):
            schema[RULES] = rules
        return schema | ({"deprecated": True} if message.deprecated else {})

    def parameter(self, field: DescField) -> Schema:
        """Return the schema of a field as path or query hold it: text, of the plain type."""
        return self.field(field, Form.INPUT, textual=False, nullable=False)

    def field(
        self, field: DescField, form: Form = Form.REPLY, *, textual: bool = True, nullable: bool = True
    ) -> Schema:
        """Return a field's schema, with its rules, comment and example."""
        value, rules = field.value, rules_of(field)
        if form is Form.REPLY:
            schema = _held(value, self._element(element_of(field), form, None, textual=textual))
            return schema | self._facts(field)
        said = keywords(rules) if rules is not None else {}
        if isinstance(value, DescFieldValueList | DescFieldValueMap):
            inner = _inner_rules(rules)
            element = self._element(element_of(field), Form.INPUT, inner, textual=textual)
            schema = _held(value, element)
            if "propertyNames" in said:
                schema["propertyNames"] = schema.get("propertyNames", {}) | said.pop("propertyNames")
            schema |= {name: each for name, each in said.items() if name not in ("items", "additionalProperties")}
        else:
            partly = form is Form.PATCH and plain_message_of(field) is not None
            schema = self._element(element_of(field), form if partly else Form.INPUT, rules, textual=textual)
        schema = _or_nothing(schema, field, rules, nullable=nullable)
        if rules is not None and (rest := list(unsaid(rules))):
            schema[RULES] = rest
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
        own = options_of(field)
        if own is not None and own.sensitive:
            facts["x-interlock-sensitive"] = True
        if own is not None and own.example:
            facts["examples"] = [_json_or_text(own.example)]
        return facts

    def _element(self, element: Any, form: Form, rules: FieldRules | None, *, textual: bool) -> Schema:
        if isinstance(element, DescMessage):
            return self.message(element, form, textual=textual)
        if isinstance(element, DescEnum):
            return self._enum(element) if form is Form.REPLY else self._enum_given(element, rules)
        if form is Form.REPLY:
            return reply_scalar(element)
        return request_scalar(element, keywords(rules) if rules is not None else {}, textual=textual)

    def _enum_given(self, enum: DescEnum, rules: FieldRules | None) -> Schema:
        """Return an enum as requests may give it: by name or number, of those that its rules leave."""
        if enum.type_name == WELL_KNOWN + "NullValue":
            return {"enum": [None, "NULL_VALUE", 0]}
        given: Any = rules.type.value if rules is not None and rules.type is not None else None
        wanted = {each.number for each in enum.values}
        if given is not None:
            wanted &= set(given.in_) or wanted
            wanted &= {given.const} if given.has_field("const") else wanted
            wanted -= set(given.not_in)
        if rules is not None and rules.required:
            wanted -= {0}
        named = self._enum(enum)
        numbers = [each.number for each in enum.values if each.number in wanted]
        if len(wanted) < len({each.number for each in enum.values}):
            return {"enum": [each.name for each in enum.values if each.number in wanted] + numbers}
        return {"anyOf": [named, {"enum": numbers}]}

    def _enum(self, enum: DescEnum) -> Schema:
        if enum.type_name == WELL_KNOWN + "NullValue":
            return {"type": "null"}
        name = self._names.get((enum.type_name, Form.REPLY))
        if name is None:
            name = self._name(enum.type_name, enum.file.proto.package, Form.REPLY)
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

    def _name(self, type_name: str, package: str, form: Form) -> str:
        short = type_name.removeprefix(f"{package}.") if package else type_name
        plain = form is Form.REPLY or (form is Form.INPUT and type_name not in self._replied)
        ending = "" if plain else form.value
        name = f"{type_name if short + ending in self._taken else short}{ending}"
        self._taken.add(name)
        self._names[type_name, form] = name
        return name


@cache
def needed_fields(message: DescMessage) -> frozenset[str]:
    """Return the fields, and oneofs, without which a message breaks its own rules, or that its contract requires.

    The rules themselves say so: of an empty message they find what must be there.
    """
    needed = {each.name for each in message.fields if is_wanted(each)}
    if not _has_rules(message):
        return frozenset(needed)
    for each in Validator().collect_violations(
        message.type()
    ):  # a fresh one: it knows messages by name, over all contracts
        elements = each.proto.field.elements if each.proto.field is not None else []
        if len(elements) == 1:
            needed.add(elements[0].field_name)
    return frozenset(needed)


def _has_rules(message: DescMessage) -> bool:
    ruled = [(each.proto.options, ext_oneof) for each in message.oneofs]
    if any(options is not None and extension in options for options, extension in ruled):
        return True
    return any(rules_of(each) is not None for each in message.fields) or any(message_rules(message))


def is_wanted(field: DescField) -> bool:
    """Tell whether a request must have the field: the contract says so, or a rule does."""
    return FieldBehavior.REQUIRED in behaviors(field) or is_required(field)


def options_of(field: DescField) -> FieldOptions | None:
    """Return what `interlock.v1.field` says of the field."""
    options = field.proto.options
    return options[ext_field] if options is not None and ext_field in options else None


def _is_there(field: DescField, form: Form, needed: Collection[str]) -> bool:
    if form is Form.REPLY:
        return field.presence == _IMPLICIT
    return form is Form.INPUT and field.name in needed and FieldBehavior.OUTPUT_ONLY not in behaviors(field)


_SET: Schema = {"not": {"type": "null"}}


def _one_of_each(demanded: Collection[DescOneof], others: Collection[DescOneof]) -> Schema:
    """Return what says that one member of each is there, or of the others at most one; null is none."""
    choices: list[Schema] = [{"oneOf": [{"required": [field.name]} for field in each.fields]} for each in demanded]
    for each in others:
        names = [field.name for field in each.fields]
        choices += [{"not": {"required": [*pair], "properties": dict.fromkeys(pair, _SET)}} for pair in pairs(names, 2)]
    return choices[0] if len(choices) == 1 else {"allOf": choices} if choices else {}


def _held(value: Any, element: Schema) -> Schema:
    """Return the schema of a field that holds such elements: one, a list, or a map."""
    if isinstance(value, DescFieldValueList):
        return {"type": "array", "items": element}
    if not isinstance(value, DescFieldValueMap):
        return element
    schema: Schema = {"type": "object", "additionalProperties": element}
    if pattern := _KEY_PATTERNS.get(value.key, "^-?[0-9]{1,9}$"):
        schema["propertyNames"] = {"pattern": pattern}
    return schema


def _inner_rules(rules: FieldRules | None) -> FieldRules | None:
    inner: Any = rules.type.value if rules is not None and rules.type is not None else None
    found = getattr(inner, "items", None) or getattr(inner, "values", None)
    return found if isinstance(found, FieldRules) else None


def _or_nothing(schema: Schema, field: DescField, rules: FieldRules | None, *, nullable: bool) -> Schema:
    """Let null, which is the same as leaving the field out, and a zero value that rules are not asked about, pass."""
    oneof = getattr(field.value, "oneof", None)
    needed = needed_fields(field.parent)
    if rules is not None and rules.ignore is Ignore.IF_ZERO_VALUE and schema.get("type") == "string":
        schema = {"anyOf": [schema, {"const": ""}]}
    if not nullable or field.name in needed or (oneof is not None and oneof.name in needed):
        return schema
    if "enum" in schema:
        return schema if None in schema["enum"] else schema | {"enum": [*schema["enum"], None]}
    if "type" in schema:
        given = schema["type"]
        return schema | {"type": [*(given if isinstance(given, list) else [given]), "null"]}
    if schema.keys() == {"anyOf"}:
        return {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def reachable(message: DescMessage) -> set[str]:
    """Return the full names of a message and of all that it can hold."""
    found: dict[str, DescMessage] = {}
    waiting = [message]
    while waiting:
        each = waiting.pop()
        if each.type_name not in found:
            found[each.type_name] = each
            waiting.extend(inner for field in each.fields if isinstance(inner := element_of(field), DescMessage))
    return set(found)


def _json_or_text(example: str) -> Any:
    try:
        return json.loads(example)
    except ValueError:
        return example
