"""An `App`: handlers of services as one ASGI application, its routes, its documents and its life."""

from interlock.app.app import App
from interlock.app.services import Mounted

__all__ = ["App", "Mounted"]
