"""What the streams of a client are in every protocol: requests as they go out, and the one reply of many requests."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from protobuf import Message

from interlock.errors import Error, Unimplemented
from interlock.protocols.serving import closing


def received(error: Error) -> Error:
    """Mark an error as a neighbour's, so that it is not taken for the mistake of our own caller."""
    error.received = True
    return error


class Requests:
    """The caller's stream of requests, encoded as it goes out.

    `over` tells whether all went out; `raised` is what the stream raised instead, which is what the caller should see.
    """

    def __init__(self, requests: AsyncIterator[Message[Any]], encode: Callable[[Message[Any]], bytes]) -> None:
        self._requests = requests
        self._encode = encode
        self.over = False
        self.raised: Exception | None = None

    async def forward(self) -> AsyncGenerator[bytes, None]:
        """Yield the requests."""
        try:
            async with closing(self._requests):
                async for request in self._requests:
                    yield self._encode(request)
            self.over = True
        except Exception as broken:
            self.raised = broken
            raise


async def only(replies: AsyncIterator[Message[Any]]) -> Message[Any]:
    """Return the one message of a stream; UNIMPLEMENTED if it has none, or more (grpc/doc/statuscodes.md)."""
    found: Message[Any] | None = None
    async with closing(replies):
        async for message in replies:
            if found is not None:
                raise received(Unimplemented("the reply holds more than one message"))
            found = message
    if found is None:
        raise received(Unimplemented("the reply holds no message"))
    return found
