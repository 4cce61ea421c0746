"""What a client's methods take: the request's fields, a whole request, or a stream of them."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, TypeVar

from protobuf import Message

from interlock.protocols.serving import closing

Q = TypeVar("Q", bound=Message[Any])


def pick(request: Q | None, fields: Q) -> Q:
    """Return the request given whole, or the one built from fields; TypeError if both were given."""
    if request is None:
        return fields
    typed(request, type(fields))
    if fields != type(fields)():
        raise TypeError("give either a whole request or its fields, not both")
    return request


def typed(request: Any, expected: type[Q]) -> Q:
    """Return a request of the expected type; TypeError for any other."""
    if not isinstance(request, expected):  # encoded as what it is not, it would arrive as something else
        raise TypeError(f"expected a {expected.__name__}, not {type(request).__name__}")
    return request


async def streamed(requests: AsyncIterable[Q] | Iterable[Q], expected: type[Q]) -> AsyncIterator[Q]:
    """Yield the requests, each of the expected type; close what can be closed."""
    if isinstance(requests, AsyncIterable):
        iterator = aiter(requests)
        async with closing(iterator):
            async for request in iterator:
                yield typed(request, expected)
    else:
        for request in requests:
            yield typed(request, expected)
