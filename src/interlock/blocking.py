"""The blocking twin of a client, for scripts: the same object, its coroutines waited for on one loop of the process."""

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from interlock.client import Client, Paged, ReplyStream

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def blocking(client: Client) -> "Blocking":
    """Make a twin of `client` whose methods wait.

    `with blocking(OrderServiceClient("orders:8080")) as orders: …`

    Streams and lists become plain iterators; `await` on a list becomes `.first()`. For scripts and notebooks; inside a
    running event loop, RuntimeError: there the client itself is the right one.
    """
    return Blocking(client)


class Blocking:
    """A client whose calls block; see `blocking`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def wait(*args: Any, **kwargs: Any) -> Any:
            _refuse_inside_loop()
            return _plain(value(*args, **kwargs))

        return wait

    def __enter__(self) -> "Blocking":
        return self

    def __exit__(self, *_: object) -> None:
        _wait(self._client.close())


class BlockingPages(Iterator[Any]):
    """A list, waited for: iterate it for all items, `first()` for the first page, `pages()` for all pages."""

    def __init__(self, paged: "Paged[Any, Any]") -> None:
        self._paged = paged
        self._items: Iterator[Any] | None = None

    def first(self) -> Any:
        """Return the first page."""
        return _wait(_awaited(self._paged))

    def pages(self) -> Iterator[Any]:
        """Yield page after page."""
        return _each(self._paged.pages())

    def __next__(self) -> Any:
        if self._items is None:
            self._items = _each(aiter(self._paged))
        return next(self._items)


def _plain(value: Any) -> Any:
    if inspect.iscoroutine(value):
        return _wait(value)
    if isinstance(value, Paged):
        return BlockingPages(value)
    if isinstance(value, ReplyStream):
        return _each(value)
    if isinstance(value, Client):
        return Blocking(value)
    return value


def _each(items: AsyncIterator[Any]) -> Iterator[Any]:
    try:
        while True:
            try:
                yield _wait(_awaited(anext(items)))
            except StopAsyncIteration:
                return
    finally:
        close = getattr(items, "close", None) or getattr(items, "aclose", None)
        if close is not None:
            _wait(close())


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def _refuse_inside_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("a blocking client can't be used inside an event loop; use the client itself, with await")


def _wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run on the process's one background loop: grpcio shares a poller, so a second loop would slow both."""
    global _loop  # noqa: PLW0603 - one loop a process, made on first use
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="interlock-blocking", daemon=True).start()
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop)
    try:
        return future.result()
    except BaseException:  # Ctrl-C: nobody waits any more, so the call ends too
        future.cancel()
        raise
