"""The documents of an app, each made when it is first asked for."""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from interlock.app.services import Services
from interlock.assembly import TOKENS
from interlock.contract.asyncapi import asyncapi_json
from interlock.contract.describe import describe
from interlock.contract.openapi import Credentials, openapi_json

if TYPE_CHECKING:
    from interlock.settings import Settings


class Documents:
    """OpenAPI and AsyncAPI of the services, and their contracts as operators see them."""

    def __init__(self, services: Services, settings: "Settings", *, api_keys: bool, tokens: bool) -> None:
        self._services = services
        self._title = settings.service_name if len(services.all) > 1 else ""
        self._credentials = Credentials(
            api_keys=api_keys,
            token_url=TOKENS if tokens else "",
            certificates=settings.tls_client_authorities is not None,
        )

    @cached_property
    def openapi(self) -> bytes:
        """The OpenAPI 3.1 document."""
        images = [each.image for each in self._services.contracts]
        return openapi_json(self._services.all, images=images, title=self._title, credentials=self._credentials)

    @cached_property
    def asyncapi(self) -> bytes:
        """The AsyncAPI 3.0 document."""
        return asyncapi_json(self._services.contracts, services=self._services.all)

    def described(self) -> dict[str, Any]:
        """Return the contracts in force."""
        return {"contracts": [describe(each) for each in self._services.contracts]}
