"""One attacked process for a module of attacks."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.hostile.target import Target
from tests.server.processes import serving_process

HEAD_SECONDS = 2
BODY_SECONDS = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def target(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """`interlock serve` with one worker, impatient of those who are slow."""
    directory = tmp_path_factory.mktemp("attacked")
    settings = {"header_timeout": f"{HEAD_SECONDS}s", "body_idle_timeout": f"{BODY_SECONDS}s", "log_level": "warning"}
    with serving_process(directory, "tests.hostile.app:make", **settings) as process:
        yield Target(await process.ready())
