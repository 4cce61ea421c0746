"""The conformance service on a real port, started once for a file's tests."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from interlock.server import serving
from interlock.settings import Settings
from tests.conformance.calling import Caller
from tests.conformance.service import Conformance, make

LIMIT = 200 * 1024
"""The largest request, in bytes, that the suite tells a server under test to take."""


@pytest.fixture(scope="module")
def conformance() -> Conformance:
    """The handlers, to look into."""
    return Conformance()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(conformance: Conformance) -> AsyncIterator[Caller]:
    """Who calls them."""
    async with serving(make(conformance, settings=Settings(request_bytes=LIMIT))) as address:
        yield Caller(address)
