"""What the server needs of an app, and how `module:make` becomes one."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from interlock.settings import Settings

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


@runtime_checkable
class Application(Protocol):
    """An app as the server runs it: two ASGI faces, and a life between `start` and `stop`."""

    settings: "Settings"

    @property
    def banner(self) -> list[str]:
        """Lines for the start: the services that are served, where the documentation stands."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request on the API port."""
        ...

    async def operations(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request on the operations port."""
        ...

    async def start(self) -> None:
        """Open what calls need; raises where the app cannot serve."""
        ...

    async def drain(self, limit: float) -> None:
        """Be not ready at once; return when no call is in flight, cancelling what is left after `limit` seconds.

        May be called again, and while an earlier one still waits.
        """
        ...

    async def stop(self) -> None:
        """Close what `start` opened."""
        ...


class StartError(Exception):
    """The app or its surroundings are not fit to serve; the text says why and what to do, no traceback is needed."""


def load(target: str) -> Application:
    """Return the app that `module:make` makes; `StartError` where there is none."""
    factory = _find(target)
    if inspect.iscoroutinefunction(factory):
        raise StartError(
            f"{target} is async; write a plain `def` that builds the App, and open connections when the App starts"
        )
    try:
        app = factory()
    except Exception as error:
        raise StartError(told(error, f"{target} failed")) from error
    if not isinstance(app, Application):
        raise StartError(f"{target} returned {_kind(app)}, not an App; does it end in `return App(…)`?")
    return app


def _find(target: str) -> Callable[[], object]:
    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise StartError(f"{target!r} is not of the form module:make, such as shop.orders:make")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise StartError(f"there is no module {module_name!r} in {here} or among the installed packages") from error
        raise StartError(told(error, f"importing {module_name} failed")) from error
    except Exception as error:
        raise StartError(told(error, f"importing {module_name} failed")) from error
    factory = getattr(module, name, None)
    if factory is None:
        own = (
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
        )
        has = ", ".join(own) or "no function"
        raise StartError(f"{module_name} has no {name!r}; it has {has}")
    if not callable(factory):
        raise StartError(f"{target} is {_kind(factory)}, not a function that makes an App")
    if isinstance(factory, Application) and not isinstance(factory, type):
        raise StartError(f"{target} is an App itself; name a function that makes one, so that each worker has its own")
    return factory  # type: ignore[no-any-return]


def told(error: Exception, what: str) -> str:
    """Return `error` as text: a line for our own and for settings, with the user's frames for anything else."""
    module = type(error).__module__
    if module.startswith("pydantic"):
        explained = _explained(error)
        if explained:
            return explained
    if module.startswith("interlock."):
        return str(error)
    lines = traceback.format_exception(error)
    frames = [line for line in lines if f'File "{__file__}"' not in line and "importlib" not in line]
    return f"{what}\n{''.join(frames).rstrip()}"


def _explained(error: Exception) -> str:
    """Explain a mistake in the settings; empty where `error` is about some other model of pydantic's."""
    from pydantic import ValidationError  # noqa: PLC0415
    from pydantic_settings import SettingsError  # noqa: PLC0415

    from interlock.settings import Settings, explain  # noqa: PLC0415

    known: list[type[Settings]] = [Settings]
    for each in known:
        known.extend(each.__subclasses__())
    if isinstance(error, SettingsError):
        return explain(error)
    if isinstance(error, ValidationError):  # it tells the name of its class, no more
        return next((explain(error, each) for each in known if each.__name__ == error.title), "")
    return ""


def _kind(value: object) -> str:
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
