"""Idempotency keys over every protocol: one effect, the same answer, and the codes of each where a key is misused."""

import asyncio
import base64
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from grpc import aio
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select

from interlock import Call, Database, FailedPrecondition
from interlock.server import serving
from interlock.testing import until
from tests.sample.gen.sample.v1.sample_pb import CreateThingRequest, Thing
from tests.sample.gen.sample.v1.sample_rpc import CREATE_THING
from tests.sample.handlers import Sample, make

metadata = MetaData()
made = Table("made", metadata, Column("id", Integer, primary_key=True), Column("name", String, nullable=False))


class Making(Sample):
    """Makes things in a database; waits while `free` is not set, and refuses the name `refused`."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.free = asyncio.Event()
        self.free.set()
        self.begun = 0

    async def create_thing(self, request: CreateThingRequest, call: Call) -> Thing:
        """Make one."""
        self.begun += 1
        await self.free.wait()
        async with self.database.transaction() as tx:
            result = await tx.execute(insert(made).values(name=request.name).returning(made.c.id))
            number = result.scalar_one()
            if request.name == "refused":
                raise FailedPrecondition("not this one", reason="OUT_OF_THINGS")
        return Thing(thing_id=f"t-{number}", name=request.name)

    async def count(self) -> int:
        """Return how many were made."""
        async with self.database.transaction(read_only=True) as tx:
            return int((await tx.execute(select(func.count()).select_from(made))).scalar_one())


@dataclass
class Got:
    """What came back: the thing's id, or how it failed in the words of the protocol, and whether it was replayed."""

    id: str = ""
    failed: Any = None
    reason: str = ""
    replayed: bool = False


Ask = Callable[[str, str | None], Coroutine[Any, Any, Got]]


@pytest.fixture
def making(tmp_path: Path) -> Making:
    """A handler over a database of its own."""
    return Making(Database(f"sqlite:///{tmp_path}/made.db", metadata=metadata))


@pytest.fixture
async def doors(making: Making) -> AsyncIterator[dict[str, Ask]]:
    """The ways to ask: each sends the key that it is given, or none."""
    app = make(making, database=making.database)
    async with (
        serving(app) as address,
        httpx2.AsyncClient(base_url=address.url, trust_env=False) as http,
        aio.insecure_channel(str(address)) as channel,
    ):
        path = CREATE_THING.path

        async def rest(name: str, key: str | None) -> Got:
            response = await http.post("/v1/things", json={"name": name}, headers=_header(key))
            return _of_json(response, response.json().get("data"), response.json().get("error"))

        async def connect(name: str, key: str | None) -> Got:
            response = await http.post(path, json={"name": name}, headers=_header(key))
            document = response.json()
            failed = document if response.status_code != 200 else None
            if failed is not None:
                details = [each["debug"] for each in failed["details"] if "debug" in each]
                failed["code"] = next(each["reason"] for each in details if "reason" in each)
            return _of_json(response, document, failed)

        async def over_grpc(name: str, key: str | None) -> Got:
            call = channel.unary_unary(path)(
                CreateThingRequest(name=name).to_binary(), metadata=list(_header(key).items())
            )
            try:
                thing = Thing.from_binary(await call)
            except aio.AioRpcError as error:
                return Got(failed=error.code(), reason=error.details() or "", replayed=_is_replayed(error))
            return Got(id=thing.thing_id, replayed="idempotency-replayed" in dict(await call.initial_metadata()))

        async def web(name: str, key: str | None) -> Got:
            message = CreateThingRequest(name=name).to_binary()
            frame = struct.pack(">BI", 0, len(message)) + message
            headers = {"content-type": "application/grpc-web-text", **_header(key)}
            response = await http.post(path, content=base64.b64encode(frame), headers=headers)
            replayed = response.headers.get("idempotency-replayed") == "true"
            status = response.headers.get("grpc-status")
            body = base64.b64decode(response.content)
            if status is None and body[0] == 0:
                size = struct.unpack(">I", body[1:5])[0]
                return Got(id=Thing.from_binary(body[5 : 5 + size]).thing_id, replayed=replayed)
            text = body.decode("latin-1")
            code = int(status) if status is not None else int(text.partition("grpc-status:")[2].split()[0])
            return Got(failed=code, reason=response.headers.get("grpc-message", text), replayed=replayed)

        yield {"rest": rest, "connect": connect, "grpc": over_grpc, "grpc-web": web}


def _header(key: str | None) -> dict[str, str]:
    return {} if key is None else {"idempotency-key": key}


def _is_replayed(error: aio.AioRpcError) -> bool:
    return any("idempotency-replayed" in dict(each) for each in (error.initial_metadata(), error.trailing_metadata()))


def _of_json(response: httpx2.Response, thing: Any, failed: Any) -> Got:
    replayed = response.headers.get("idempotency-replayed") == "true"
    if failed is not None:
        return Got(failed=response.status_code, reason=failed["code"], replayed=replayed)
    return Got(id=thing.get("thing_id") or thing["thingId"], replayed=replayed)


OVER = ["rest", "connect", "grpc", "grpc-web"]
CODES = {
    "missing": {"rest": 400, "connect": 400, "grpc": grpc.StatusCode.INVALID_ARGUMENT, "grpc-web": 3},
    "reused": {"rest": 422, "connect": 400, "grpc": grpc.StatusCode.FAILED_PRECONDITION, "grpc-web": 9},
    "in flight": {"rest": 409, "connect": 409, "grpc": grpc.StatusCode.ABORTED, "grpc-web": 10},
    "refused": {"rest": 400, "connect": 400, "grpc": grpc.StatusCode.FAILED_PRECONDITION, "grpc-web": 9},
}
"""On Connect the HTTP status follows the code alone, so a reused key is told by its reason there."""


@pytest.mark.parametrize("first", OVER)
async def test_an_answer_is_replayed_over_every_protocol(first: str, doors: dict[str, Ask], making: Making) -> None:
    """Whatever the first call came over; the effect is there once."""
    original = await doors[first]("cup", '"k-1"')
    assert (original.id, original.replayed) == ("t-1", False)
    for again in OVER:
        assert await doors[again]("cup", "k-1") == Got(id="t-1", replayed=True), again
    assert await making.count() == 1


@pytest.mark.parametrize("over", OVER)
async def test_a_key_for_another_request_is_refused(over: str, doors: dict[str, Ask], making: Making) -> None:
    """FAILED_PRECONDITION, 422 on REST, KEY_REUSED; nothing happens."""
    await doors["rest"]("cup", "k-1")
    refused = await doors[over]("plate", "k-1")
    assert (refused.id, refused.failed) == ("", CODES["reused"][over])
    assert over.startswith("grpc") or refused.reason == "KEY_REUSED"
    assert await making.count() == 1


@pytest.mark.parametrize("over", OVER)
async def test_a_missing_key_is_asked_for(over: str, doors: dict[str, Ask], making: Making) -> None:
    """INVALID_ARGUMENT, 400, before the handler."""
    refused = await doors[over]("cup", None)
    assert (refused.failed, making.begun) == (CODES["missing"][over], 0)


@pytest.mark.parametrize("over", OVER)
async def test_a_second_while_the_first_runs_is_told_so(over: str, doors: dict[str, Ask], making: Making) -> None:
    """ABORTED, 409; once the first is done the same key has its answer."""
    making.free.clear()
    first = asyncio.create_task(doors["grpc"]("cup", "k-1"))
    await until(lambda: making.begun)
    assert (await doors[over]("cup", "k-1")).failed == CODES["in flight"][over]
    making.free.set()
    assert (await first).id == "t-1"
    assert await doors[over]("cup", "k-1") == Got(id="t-1", replayed=True)
    assert making.begun == 1


@pytest.mark.parametrize("first", OVER)
async def test_a_lasting_error_is_an_answer_too(first: str, doors: dict[str, Ask], making: Making) -> None:
    """The handler's own refusal is replayed, in the words of each protocol, and nothing stays of what it did."""
    assert (await doors[first]("refused", "k-1")).failed == CODES["refused"][first]
    for again in OVER:
        repeated = await doors[again]("refused", "k-1")
        assert (repeated.failed, repeated.replayed) == (CODES["refused"][again], True), again
    assert (making.begun, await making.count()) == (1, 0)
