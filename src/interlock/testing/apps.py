"""One app at work in a test: in process, or on a real port."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from interlock.app import App
from interlock.server import Address, Tls, serving
from interlock.testing.callers import C, Callers
from interlock.testing.surroundings import Surroundings

if TYPE_CHECKING:
    import httpx2


class ServedApp:
    """An app that serves until its block, or the test, ends; `address` is None where it serves in process alone."""

    def __init__(self, app: App, address: Address | None, callers: Callers) -> None:
        self.app = app
        self.address = address
        self._callers = callers

    def client(self, kind: type[C], *roles: str, subject: str = "tester", **options: Any) -> C:
        """Return a typed client: `served.client(OrderServiceClient, "operator")`.

        It calls in process, or over gRPC where the app has a port. With roles it shows a token, without it shows none.
        `options` are those of the client. Closed with the app.
        """
        target = self.app if self.address is None else str(self.address)
        return self._callers.client(kind, target, roles, subject, options)

    def http(self, *roles: str, subject: str = "tester") -> "httpx2.AsyncClient":
        """Return an HTTP client for REST, closed with the app; RuntimeError where the app has no port."""
        if self.address is None:
            raise RuntimeError("the app serves in process alone; for REST start it with a port: app(make, port=True)")
        return self._callers.http(self.address.url, roles, subject)


@asynccontextmanager
async def app_running(
    make: Callable[..., App] | App,
    surroundings: Surroundings,
    *,
    port: bool = False,
    tls: Tls | None = None,
    **settings: Any,
) -> AsyncIterator[ServedApp]:
    """Run one app while the block runs; `Apps` says what the arguments are."""
    async with AsyncExitStack() as stack:
        served = await _start(stack, make, surroundings, settings, port=port, tls=tls)
        yield served


class Apps:
    """The fixture `app`: starts apps that end with the test."""

    def __init__(self, stack: AsyncExitStack, surroundings: Surroundings) -> None:
        self._stack = stack
        self._surroundings = surroundings

    async def __call__(
        self, make: Callable[..., App] | App, *, port: bool = False, tls: Tls | None = None, **settings: Any
    ) -> ServedApp:
        """Start the app that `make` makes, or an app made already, and return it.

        It serves in process, with `port` (or `tls`, the files of its certificate) on a free port of loopback. What is
        given besides are settings as `make` reads them from the environment: `await app(make, log_level="error")`; a
        broker that is an object is handed to `make(broker=…)`.
        """
        return await _start(self._stack, make, self._surroundings, settings, port=port, tls=tls)


async def _start(
    stack: AsyncExitStack,
    make: Callable[..., App] | App,
    surroundings: Surroundings,
    settings: dict[str, Any],
    *,
    port: bool,
    tls: Tls | None,
) -> ServedApp:
    app = make if isinstance(make, App) else _made(make, surroundings, settings)
    address: Address | None = None
    if port or tls is not None:
        address = await stack.enter_async_context(serving(app, tls=tls))
    else:
        await stack.enter_async_context(app)
    callers = Callers(surroundings.keys)
    stack.push_async_callback(callers.close)
    return ServedApp(app, address, callers)


def _made(make: Callable[..., App], surroundings: Surroundings, settings: dict[str, Any]) -> App:
    handed = {}
    if not isinstance(settings.get("broker", ""), str):
        settings = dict(settings)
        handed["broker"] = settings.pop("broker")
    with surroundings.around(settings):
        made = make(**handed)
    if not isinstance(made, App):
        raise TypeError(f"{getattr(make, '__qualname__', make)} returned {type(made).__name__}, not an App")
    return made
