"""`buf curl` speaks all three protocols to a real port, with and without reflection."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from interlock.server import Address, serving
from tests.sample.handlers import make

BUF = str(Path(sys.executable).parent / "buf")
SERVICE = "sample.v1.SampleService"


async def curl(address: Address, protocol: str, method: str, data: str, *options: str) -> tuple[int, str, str]:
    """Run `buf curl`; return its exit code and what it printed."""
    prior = [] if protocol == "connect" else ["--http2-prior-knowledge"]
    command = [BUF, "curl", "--protocol", protocol, *prior, *options, "-d", data, f"{address.url}/{SERVICE}/{method}"]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.parametrize("protocol", ["connect", "grpc", "grpcweb"])
async def test_buf_curl(protocol: str) -> None:
    """It finds the contract by reflection, calls unary operations and a stream, and shows an error's details."""
    async with serving(make()) as address:
        reflect = ["--reflect-protocol", "grpc-v1", "--http2-prior-knowledge"]
        said, counted, failed = await asyncio.gather(
            curl(address, protocol, "Echo", '{"text": "grüße"}', *reflect),
            curl(address, protocol, "CountUp", '{"count": 3}', *reflect),
            curl(address, protocol, "GetThing", '{"thingId": "nobody"}', *reflect),
        )
    assert said[0] == 0, said[2]
    assert json.loads(said[1]) == {"text": "grüße"}
    assert "".join(counted[1].split()) == '{"number":1}{"number":2}{"number":3}'
    error = json.loads(failed[2])
    assert (failed[0] > 0, error["code"]) == (True, "not_found")
    assert {each["type"] for each in error["details"]} >= {"google.rpc.ErrorInfo"}
