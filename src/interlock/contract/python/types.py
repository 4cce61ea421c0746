"""How protobuf-py types a message's fields as keyword arguments."""

from collections.abc import Iterator

from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    DescOneof,
    ScalarType,
)

from interlock.contract.python.imports import Imports

BUILTINS = frozenset({"str", "bytes", "bool", "float", "int", "list", "dict"})
"""The builtin types that annotations name."""

_SCALARS = {
    ScalarType.STRING: ("str", '""'),
    ScalarType.BYTES: ("bytes", 'b""'),
    ScalarType.BOOL: ("bool", "False"),
    ScalarType.DOUBLE: ("float", "0"),
    ScalarType.FLOAT: ("float", "0"),
}
_INTEGER = ("int", "0")


class FieldTypes:
    """Writes the parameters that a message's constructor takes; `shadowed` names the builtins a class hides."""

    def __init__(self, imports: Imports, shadowed: frozenset[str] = frozenset()) -> None:
        self._imports = imports
        self._shadowed = shadowed

    def parameters(self, message: DescMessage) -> Iterator[str]:
        """Yield `name: type = default` for each field and oneof."""
        for member in message.members:
            if isinstance(member, DescOneof):
                yield f"{member.local_name}: {self._oneof(member)} | None = None"
            elif isinstance(member.value, DescFieldValueScalar) and member.presence.name == "IMPLICIT":
                _, zero = _SCALARS.get(member.value.scalar, _INTEGER)
                yield f"{member.local_name}: {self._field(member)} = {zero}"
            else:
                yield f"{member.local_name}: {self._field(member)} | None = None"

    def _oneof(self, oneof: DescOneof) -> str:
        generic, literal = self._imports.use("protobuf", "Oneof"), self._imports.use("typing", "Literal")
        return " | ".join(f'{generic}[{literal}["{each.name}"], {self._field(each)}]' for each in oneof.fields)

    def _field(self, field: DescField) -> str:
        match field.value:
            case DescFieldValueMessage(message=message):
                return self._imports.type(message)
            case DescFieldValueEnum(enum=enum):
                return self._imports.type(enum)
            case DescFieldValueScalar(scalar=scalar):
                return self._element(scalar)
            case DescFieldValueList(element=element):
                return f"{self._builtin('list')}[{self._element(element)}]"
            case DescFieldValueMap(key=key, value=value):
                return f"{self._builtin('dict')}[{self._element(key)}, {self._element(value)}]"

    def _element(self, element: ScalarType | DescMessage | DescEnum) -> str:
        if isinstance(element, ScalarType):
            return self._builtin(_SCALARS.get(element, _INTEGER)[0])
        return self._imports.type(element)

    def _builtin(self, name: str) -> str:
        return self._imports.use("builtins", name) if name in self._shadowed else name
