"""A rate limit kept by two real workers of one service together."""

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from interlock import Error
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.server.processes import serving_process

LIMIT, ASKED = 50, 30
LOWERED = {"sample.v1.SampleService/CreateThing": {"rate_limit": f"{LIMIT}/3600s"}}


async def test_two_workers_together_never_exceed_a_limit(tmp_path: Path) -> None:
    """Clients of either worker ask for more than the limit at once, and get exactly the limit together."""
    settings = {"workers": "2", "operations": json.dumps(LOWERED)}
    with serving_process(tmp_path, "tests.server.apps:make", **settings) as process:
        await process.ready()
        async with AsyncExitStack() as stack:
            clients: dict[str, SampleServiceClient] = {}
            async with asyncio.timeout(20):
                while len(clients) < 2:  # a connection stays with the worker that accepted it
                    client = SampleServiceClient(f"127.0.0.1:{process.port}", connections=2, policy="off")
                    await stack.enter_async_context(client)
                    first, second = (await client.echo(text="pid")).text, (await client.echo(text="pid")).text
                    if first == second:
                        clients.setdefault(first, client)

            async def ask(client: SampleServiceClient, name: str) -> str:
                try:
                    await client.create_thing(name=name)
                except Error as error:
                    return error.code.name
                return "OK"

            calls = [ask(each, f"{pid}-{n}") for n in range(ASKED) for pid, each in clients.items()]
            ends = Counter(await asyncio.gather(*calls))
    assert ends == {"OK": LIMIT, "RESOURCE_EXHAUSTED": 2 * ASKED - LIMIT}
