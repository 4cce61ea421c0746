"""Conditional requests (RFC 9110 §13): the contract's `string etag` as `ETag`, `If-Match` and `If-None-Match`.

What changes something is compared by its handler, in the statement that changes it; the header only fills the field.
"""

from typing import Any

from protobuf import Message

from interlock.call import Call
from interlock.contract.model import HttpBinding, Operation
from interlock.contract.rest_shape import data_field, etag_field, given_etag, must_be_conditional
from interlock.errors import EtagMismatch, InvalidArgument, PreconditionRequired, Violation
from interlock.metadata import Metadata
from interlock.protocols.rest_fields import ANY, entity_tag, entity_tags, weakly_match, whole
from interlock.protocols.rest_query import FieldPath

_MATCH, _NONE_MATCH = b"if-match", b"if-none-match"


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

        EtagMismatch for a weak one, which never matches; InvalidArgument for what cannot be compared;
        PreconditionRequired where the contract demands an etag and there is none.
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
            self._fill(entity_tags(whole(metadata, _MATCH) or header, "If-Match"), request)
        if metadata.header(_NONE_MATCH) is not None:
            raise InvalidArgument("If-None-Match is for GET and HEAD; what changes something takes If-Match")

    def _fill(self, tags: frozenset[bytes], request: Message[Any]) -> None:
        path = self._path
        if path is None:
            raise InvalidArgument("If-Match: there is no etag that this request could be compared with")
        if tags is ANY:
            return  # the resource must be there, which its handler sees
        if len(tags) > 1:
            raise InvalidArgument("If-Match: name one entity tag, the one that you read")
        (tag,) = tags
        if tag.startswith(b"W/"):
            raise EtagMismatch("a weak entity tag never matches (RFC 9110 §13.1.1)")
        value = tag[1:-1].decode("latin-1")
        given = path.given(request)
        if given and given != value:
            violation = Violation(field=path.name, description="is not what If-Match says")
            raise InvalidArgument("the request does not fit its contract", violations=[violation])
        path.put(request, value)


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
            tags = entity_tags(whole(metadata, _MATCH) or header, "If-Match")
            if tags is not ANY and tag not in tags:
                raise EtagMismatch("it is not what If-Match names")
        if (header := metadata.header(_NONE_MATCH)) is not None:
            tags = entity_tags(whole(metadata, _NONE_MATCH) or header, "If-None-Match")
            return tags is ANY or (tag is not None and weakly_match(tags, tag))
        return False
