"""What a call comes back as: its full result, a stream of replies, a list of pages; and how a sent call ends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from protobuf import Message

from interlock.call import Call, Handler
from interlock.errors import Cancelled, Error
from interlock.metadata import Metadata
from interlock.protocols.deprecation_notice import Notice
from interlock.resilience.sent_deadline import first_of

R = TypeVar("R", bound=Message[Any])
I = TypeVar("I", bound=Message[Any])  # noqa: E741 - the item of a page


@dataclass(frozen=True, slots=True)
class Result(Generic[R]):
    """The full reply of one call."""

    message: R
    headers: Metadata
    trailers: Metadata
    attempts: int


class ReplyStream(Generic[R]):
    """The replies of a stream: iterate it, inside `async with` if you may leave early; the block closes the stream.

    `headers` and `trailers` hold the reply's metadata once the stream has ended.
    """

    def __init__(self, call: Call, handler: Handler, notice: Notice | None = None) -> None:
        call.wants_metadata = True
        self._call = call
        self._handler = handler
        self._notice = notice
        self._replies: AsyncIterator[Any] | None = None
        self._over = False

    @property
    def headers(self) -> Metadata:
        """The metadata sent with the first message."""
        return self._call.reply_headers

    @property
    def trailers(self) -> Metadata:
        """The metadata sent with the end."""
        return self._call.reply_trailers

    def __aiter__(self) -> "ReplyStream[R]":
        return self

    async def __anext__(self) -> R:
        call = self._call
        if self._over:
            raise StopAsyncIteration
        try:
            reply = await (anext(self._replies) if self._replies is not None else first_of(call, self._open()))
        except StopAsyncIteration:
            self._over = True
            call.end()
            if self._notice is not None:
                self._notice.look(call.reply_headers, stacklevel=3)
            raise
        except BaseException as raised:
            self._over = True
            call.end(_error_of(raised))
            raise
        return reply  # type: ignore[no-any-return]  # the transport decodes into the reply type

    async def _open(self) -> Any:
        self._replies = await self._handler(self._call)  # type: ignore[assignment]  # a stream's reply is an iterator
        return await anext(self._replies)  # type: ignore[arg-type]

    async def close(self) -> None:
        """Close the stream; the server is told, if it still sends."""
        self._over = True
        close = getattr(self._replies, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            self._call.end(Cancelled("the caller closed the stream"))

    async def __aenter__(self) -> "ReplyStream[R]":
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


class Paged(Generic[R, I]):
    """A list: `await` it for the first page, iterate it for all items, `pages()` for all pages."""

    def __init__(self, fetch: Callable[[str], Awaitable[R]], items: str) -> None:
        self._fetch = fetch
        self._items = items

    def __await__(self) -> Generator[Any, None, R]:
        return self._fetch("").__await__()

    async def pages(self) -> AsyncIterator[R]:
        """Yield page after page, fetching each when it is asked for."""
        token = ""
        while True:
            page: Any = await self._fetch(token)
            yield page
            token = page.next_page_token
            if not token:
                return

    async def __aiter__(self) -> AsyncIterator[I]:
        async for page in self.pages():
            for item in getattr(page, self._items):
                yield item


async def finish(call: Call, handler: Handler) -> Any:
    """Send a call whose reply is one message, and end it."""
    try:
        reply = await handler(call)
    except BaseException as raised:
        call.end(_error_of(raised))
        raise
    call.end()
    return reply


def _error_of(raised: BaseException) -> Error:
    if isinstance(raised, Error):
        return raised
    if isinstance(raised, asyncio.CancelledError | GeneratorExit):
        return Cancelled("the caller gave up")
    return Error(f"{type(raised).__name__} before the call was sent")
