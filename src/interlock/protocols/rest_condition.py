"""Conditional requests (RFC 9110 §13): the contract's `string etag` as `ETag`, `If-Match` and `If-None-Match`.

What changes something is compared by its handler, in the statement that changes it; the header only fills the field.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from protobuf import Message

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.rest_shape import data_field, etag_field, given_etag, must_be_conditional
from interlock.errors import EtagMismatch, InvalidArgument, PreconditionRequired, Violation
from interlock.metadata import Metadata
from interlock.protocols.rest_fields import ANY, entity_tag, entity_tags, weakly_match, whole
from interlock.protocols.rest_query import FieldPath

_MATCH, _NONE_MATCH = b"if-match", b"if-none-match"
_MOST = 8
"""Entity tags of a request that changes something: each may cost its handler a transaction."""


class Precondition:
    """`If-Match` of one route that changes something, into the field that its handler compares."""

    __slots__ = ("_path", "_reads", "_required")

    def __init__(self, operation: Operation, binding: HttpBinding) -> None:
        fields = given_etag(operation, binding)
        self._path = FieldPath(fields) if fields else None
        self._required = must_be_conditional(operation, binding)
        self._reads = binding.verb == "GET"

    def apply(self, metadata: Metadata, request: Message[Any]) -> None:
        """Fill the etag that the caller names.

        Of several the first, see `if_match`. EtagMismatch for weak ones, which never match; InvalidArgument for what
        cannot be compared; PreconditionRequired where the contract demands an etag and there is none.
        """
        if self._reads:
            return
        header = metadata.header(_MATCH)
        if header is None:
            if self._required and self._path is not None and not self._path.given(request):
                raise PreconditionRequired(
                    "this request must be conditional: send If-Match with the ETag that you read, or * for any"
                )
        else:
            self._fill(_tags(metadata, header), request)
        if metadata.header(_NONE_MATCH) is not None:
            raise InvalidArgument("If-None-Match is for GET and HEAD; what changes something takes If-Match")

    def _fill(self, tags: frozenset[bytes], request: Message[Any]) -> None:
        path = self._path
        if path is None:
            raise InvalidArgument("If-Match: there is no etag that this request could be compared with")
        if tags is ANY:
            return  # the resource must be there, which its handler sees
        values = _strong(tags)
        if not values:
            raise EtagMismatch("a weak entity tag never matches (RFC 9110 §13.1.1)")
        if len(values) > _MOST:
            raise InvalidArgument(f"If-Match: name at most {_MOST} entity tags, best the one that you read")
        given = path.given(request)
        if given and values != [given]:
            violation = Violation(field=path.name, description="is not what If-Match says")
            raise InvalidArgument("the request does not fit its contract", violations=[violation])
        path.put(request, values[0])

    def others(self, call: Call) -> Iterator[None]:
        """Fill in the further entity tags that the caller names, a step each."""
        header = call.metadata.header(_MATCH)
        if self._path is None or header is None:
            return
        for value in _strong(_tags(call.metadata, header))[1:]:
            self._path.put(call.request, value)
            yield


def if_match(checked: Layer) -> Layer:
    """Try the entity tags of an `If-Match` that names several one after the other: one must match (RFC 9110 §13.1.1).

    A handler compares one, and has changed nothing where it raises EtagMismatch. `checked` is the layer that every
    request must pass, which has seen the first.
    """

    def layer(operation: Operation) -> Middleware | None:
        if not any(given_etag(operation, binding) for binding in operation.http):
            return None
        check = checked(operation)

        async def each_tag(call: Call, proceed: Handler) -> Reply:
            try:
                return await proceed(call)
            except EtagMismatch as mismatch:
                precondition = getattr(call.incoming, "precondition", None)  # REST's alone has one
                if precondition is None or mismatch.received:
                    raise
                for _ in precondition.others(call):
                    with suppress(EtagMismatch):
                        return await (proceed(call) if check is None else check(call, proceed))
                raise

        return each_tag

    return layer


def _tags(metadata: Metadata, header: bytes) -> frozenset[bytes]:
    return entity_tags(whole(metadata, _MATCH) or header, "If-Match")


def _strong(tags: frozenset[bytes]) -> list[str]:
    return sorted(tag[1:-1].decode("latin-1") for tag in tags if not tag.startswith(b"W/") and tag != b"*")


class Validators:
    """`ETag` of one route's replies, and what a GET's conditions make of it; None of a route without etags."""

    __slots__ = ("_data", "_etag", "_reads")

    def __init__(self, operation: Operation, binding: HttpBinding) -> None:
        self._etag = etag_field(operation, binding)
        self._data = data_field(operation, binding)
        self._reads = binding.verb == "GET"

    def tag(self, reply: Any) -> bytes | None:
        """Return the entity tag of what `data` is, None where it has none."""
        field = self._etag
        if field is None:
            return None
        if self._data is not None:
            if self._data not in reply:
                return None
            reply = reply[self._data]
        return entity_tag(reply[field])

    def unchanged(self, call: Call, tag: bytes | None) -> bool:
        """Tell whether the caller has what it asks for (304); EtagMismatch where it wants another (§13.2.2)."""
        if not self._reads:
            return False
        metadata = call.metadata
        if (header := metadata.header(_MATCH)) is not None:
            tags = _tags(metadata, header)
            if tags is not ANY and tag not in tags:
                raise EtagMismatch("it is not what If-Match names")
        if (header := metadata.header(_NONE_MATCH)) is not None:
            tags = entity_tags(whole(metadata, _NONE_MATCH) or header, "If-None-Match")
            return tags is ANY or (tag is not None and weakly_match(tags, tag))
        return False
