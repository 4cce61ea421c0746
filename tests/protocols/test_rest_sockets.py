"""REST on a real port: files, streams, conditions, preferences, refusals, and callers who leave."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from interlock.protocols.compression import KNOWN
from interlock.server import Address, serving
from tests.protocols.documents import AT, VERSIONS, Documents, message, speaking
from tests.waiting import until


@pytest.fixture
def documents() -> Documents:
    made = Documents()
    made.keep(message("Document")(id="d", text="text", labels={"a": "1", "b": "2"}, first=message("Line")(text="x")))
    return made


@pytest.fixture
def settings() -> dict[str, Any]:
    """Settings of the app; a test may override them."""
    return {"stream_heartbeat": "0.2s"}


@pytest.fixture
async def address(documents: Documents, settings: dict[str, Any]) -> AsyncIterator[Address]:
    async with serving(documents.app(**settings)) as address:
        yield address


@pytest.fixture(params=VERSIONS)
async def client(request: pytest.FixtureRequest, address: Address) -> AsyncIterator[httpx2.AsyncClient]:
    async with speaking(request.param, address.url) as client:
        yield client


# --- conditions -----------------------------------------------------------------------------------------------------


async def test_what_the_caller_has_is_not_sent_again(client: httpx2.AsyncClient) -> None:
    first = await client.get(f"{AT}/d")
    assert (first.status_code, first.headers["etag"]) == (200, '"v1"')
    for tags in ('"v1"', 'W/"v1"', '"x", "v1"', "*"):
        again = await client.get(f"{AT}/d", headers={"if-none-match": tags})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"v1"')
    assert (await client.get(f"{AT}/d", headers={"if-none-match": '"v2"'})).status_code == 200
    assert (await client.get(f"{AT}/d", headers={"if-match": '"v1"'})).status_code == 200
    assert (await client.get(f"{AT}/d", headers={"if-match": '"v2"'})).status_code == 412
    assert (await client.get(f"{AT}/nobody", headers={"if-none-match": "*"})).status_code == 404
    wrong = await client.get(f"{AT}/d", headers={"if-none-match": "v1"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "VALIDATION_ERROR")


async def test_a_change_is_made_of_what_the_caller_read(client: httpx2.AsyncClient, documents: Documents) -> None:
    async def change(tag: str, body: Any = None) -> httpx2.Response:
        return await client.patch(f"{AT}/d", json=body or {"text": "new"}, headers={"if-match": tag})

    done = await change('"v1"')
    assert (done.status_code, done.headers["etag"]) == (200, '"v2"')
    assert list(documents.request.update_mask.paths) == ["text"]
    stale = await change('"v1"')
    assert (stale.status_code, stale.json()["error"]["code"]) == (412, "ETAG_MISMATCH")
    assert (await change('W/"v2"')).status_code == 412
    assert (await change("*")).headers["etag"] == '"v3"'
    twice = await change('"v3"', {"text": "x", "etag": "v2"})
    assert [each["field"] for each in twice.json()["error"]["details"]] == ["document.etag"]
    assert (await client.patch(f"{AT}/d", json={"text": "free"})).headers["etag"] == '"v4"'
    assert (await change('"v4"', {"text": "e", "etag": "v4"})).status_code == 200
    assert list(documents.request.update_mask.paths) == ["text"]
    assert (await client.put(f"{AT}/d/bytes", content=b"x", headers={"if-match": '"v1"'})).status_code == 400


async def test_one_of_several_etags_must_be_the_one(client: httpx2.AsyncClient, documents: Documents) -> None:
    """A list of entity tags is met by one of them, strongly (RFC 9110 §13.1.1); nothing is changed twice."""

    async def change(tags: str, **body: str) -> httpx2.Response:
        return await client.patch(f"{AT}/d", json={"text": "new", **body}, headers={"if-match": tags})

    assert (await change('"v0", "v1", "w"')).headers["etag"] == '"v2"'
    assert (await change('"v2", W/"v2"')).headers["etag"] == '"v3"'
    assert documents.version == 3
    for stale in ('"v1", "v2"', 'W/"v3", W/"v2"', '"v2", W/"v3"'):
        refused = await change(stale)
        assert (refused.status_code, refused.json()["error"]["code"]) == (412, "ETAG_MISMATCH")
    both = await change('"v2", "v3"', etag="v3")
    assert [each["field"] for each in both.json()["error"]["details"]] == ["document.etag"]
    many = await change(", ".join(f'"{number}"' for number in range(9)))
    assert (many.status_code, many.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert "at most 8" in many.json()["error"]["message"]
    assert documents.version == 3


async def test_where_the_contract_demands_an_etag_there_must_be_one(client: httpx2.AsyncClient) -> None:
    bare = await client.delete(f"{AT}/d")
    assert (bare.status_code, bare.json()["error"]["code"]) == (428, "PRECONDITION_REQUIRED")
    assert (await client.delete(f"{AT}/d", headers={"if-match": '"v0"'})).status_code == 412
    assert (await client.delete(f"{AT}/d", headers={"if-match": '"v1"'})).status_code == 204
    assert (await client.delete(f"{AT}/d?etag=v1")).status_code == 404


# --- partial updates ------------------------------------------------------------------------------------------------


async def test_a_merge_patch_changes_entries_of_a_map(client: httpx2.AsyncClient, documents: Documents) -> None:
    merge = {"content-type": "application/merge-patch+json"}
    body = {"labels": {"a": None, "c d": "3"}, "text": None}
    answer = await client.patch(f"{AT}/d", content=json.dumps(body), headers=merge)
    assert answer.status_code == 200
    assert list(documents.request.update_mask.paths) == ["labels.a", "labels.`c d`", "text"]
    data = answer.json()["data"]
    assert (data["labels"], data["text"]) == ({"b": "2", "c d": "3"}, "")
    whole = await client.patch(f"{AT}/d", json={"labels": {"z": "1"}})
    assert whole.json()["data"]["labels"] == {"z": "1"}
    null = await client.patch(f"{AT}/d", json={"labels": {"z": None}})
    assert null.json()["error"]["details"][0]["field"] == 'document.labels["z"]'
    deep = await client.patch(f"{AT}/d", content=b'{"labels":' + b"[" * 5000 + b"null", headers=merge)
    assert deep.status_code == 400


async def test_a_map_under_a_mask_is_validated(client: httpx2.AsyncClient) -> None:
    merge = {"content-type": "application/merge-patch+json"}
    body = {"labels": {str(number): "x" for number in range(9)}}
    answer = await client.patch(f"{AT}/d", content=json.dumps(body), headers=merge)
    assert [each["field"] for each in answer.json()["error"]["details"]] == ["document.labels"]


async def test_violations_under_a_mask_are_all_told_and_bounded(client: httpx2.AsyncClient) -> None:
    few = await client.patch(f"{AT}/d", json={"lines": [{"text": "x" * 11}, {"text": "ok"}, {"text": "y" * 11}]})
    fields = [each["field"] for each in few.json()["error"]["details"]]
    assert fields == ["document.lines[0].text", "document.lines[2].text"]
    many = await client.patch(f"{AT}/d", json={"lines": [{"text": "x" * 11}] * 300})
    assert len(many.json()["error"]["details"]) == 32
    flood = await client.patch(f"{AT}/d", json={"lines": [{"text": "x" * 11}] * 100_000})
    assert flood.status_code == 400
    large = await client.patch(f"{AT}/d", json={"lines": [{"text": "x"}] * 800, "text": "x" * 9000})
    assert large.status_code == 200


# --- preferences, methods, forms ------------------------------------------------------------------------------------


async def test_a_caller_may_want_no_representation(client: httpx2.AsyncClient) -> None:
    prefer = {"prefer": "respond-async, return=minimal"}
    body = {"id": "n", "first": {"text": "x"}}
    made = await client.post(AT, json=body, headers=prefer)
    assert (made.status_code, made.content, made.headers["location"]) == (201, b"", f"{AT}/n")
    assert (made.headers["preference-applied"], made.headers["etag"]) == ("return=minimal", '"v2"')
    changed = await client.patch(f"{AT}/n", json={"text": "t"}, headers=prefer)
    assert (changed.status_code, changed.content) == (204, b"")
    whole = await client.patch(f"{AT}/n", json={"text": "t"}, headers={"prefer": "return=representation"})
    assert (whole.status_code, whole.headers.get("preference-applied")) == (200, None)
    read = await client.get(f"{AT}/n", headers=prefer)
    assert read.json()["data"]["text"] == "t"


async def test_head_is_get_without_its_body(client: httpx2.AsyncClient) -> None:
    got = await client.get(f"{AT}/d", headers={"x-request-id": "r"})
    head = await client.head(f"{AT}/d", headers={"x-request-id": "r"})
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", '"v1"')
    assert head.headers["content-length"] == str(len(got.content))
    for path, status in ((f"{AT}/nobody", 404), ("/nowhere", 404), (f"{AT}/d/bytes", 405)):
        failed = await client.head(path)
        assert (failed.status_code, failed.content) == (status, b"")
        assert int(failed.headers["content-length"]) > 50
    assert (await client.head(f"{AT}:watch?count=3")).headers["content-type"] == "application/x-ndjson"


async def test_options_tells_the_methods(client: httpx2.AsyncClient) -> None:
    answer = await client.options(f"{AT}/d")
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    assert (await client.options("/nowhere")).status_code == 404
    wrong = await client.post(f"{AT}/d", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")
    assert wrong.json()["error"]["code"] == "METHOD_NOT_ALLOWED"


async def test_a_reply_is_compressed_where_the_caller_takes_it(client: httpx2.AsyncClient) -> None:
    await client.put(f"{AT}/d", json={"text": "x" * 5000, "first": {"text": "x"}})
    for asked, given in (
        ("gzip", "gzip"), ("gzip;q=0.5, zstd", "zstd"), ("br", "br"), ("identity", None), ("gzip;q=0", None),
    ):  # fmt: skip
        async with client.stream("GET", f"{AT}/d", headers={"accept-encoding": asked}) as answer:
            raw = b"".join([each async for each in answer.aiter_raw()])
        assert answer.headers.get("content-encoding") == given
        assert answer.headers["vary"] == "accept-encoding"
        body = KNOWN[given.encode()].inflate(raw, 10_000) if given else raw
        assert json.loads(body)["data"]["text"] == "x" * 5000
        assert (int(answer.headers["content-length"]) < 1000) == (given is not None)
    small = await client.get(f"{AT}/nobody", headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in small.headers


async def test_a_file_goes_out_as_it_is(client: httpx2.AsyncClient) -> None:
    image = await client.get(f"{AT}/i/file", headers={"accept-encoding": "gzip"})
    assert (image.headers["content-type"], image.content) == ("image/png", bytes(range(256)) * 8)
    assert "content-encoding" not in image.headers
    page = await client.get(f"{AT}/page/file", headers={"accept-encoding": "gzip"})
    assert (page.headers["content-encoding"], page.text[:12]) == ("gzip", "<p>hello</p>")
    assert (await client.get(f"{AT}/none/file")).headers["content-type"] == "application/octet-stream"
    refused = await client.get(f"{AT}/i/file", headers={"accept": "text/*"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (406, "NOT_ACCEPTABLE")
    assert (await client.get(f"{AT}/bad/file")).status_code == 500
    streamed = await client.get(f"{AT}/i/stream")
    assert (streamed.headers["content-type"], streamed.content) == ("text/csv", b"a,b\n" * 4)


async def test_a_file_that_breaks_off_is_seen_to(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.RemoteProtocolError):
        await client.get(f"{AT}/cut/stream")
    assert (await client.get(f"{AT}/d")).status_code == 200


async def test_a_body_may_be_bytes(client: httpx2.AsyncClient) -> None:
    kind = {"content-type": "image/png; a=b"}
    file = await client.put(f"{AT}/i/file", content=b"\x89PNG" * 1000, headers=kind)
    assert file.json()["data"]["text"] == "image/png; a=b 4000"
    data = await client.put(f"{AT}/i/bytes", content=b"\x00\xff", headers={"content-type": "application/json"})
    assert data.json()["data"]["text"] == "00ff"
    packed = await client.put(f"{AT}/i/bytes", content=gzip.compress(b"ab"), headers={"content-encoding": "gzip"})
    assert packed.json()["data"]["text"] == "6162"
    assert (await client.put(f"{AT}/i/bytes")).json()["data"]["text"] == ""


# --- streams --------------------------------------------------------------------------------------------------------


def events(text: str) -> list[tuple[str, str, Any]]:
    """Read server-sent events as a browser does: id, type and data; comments are skipped."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if fields:
            found.append((fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])))
    return found


async def test_accept_chooses_the_form_of_a_stream(client: httpx2.AsyncClient) -> None:
    for accept in ("*/*", "application/x-ndjson", "text/event-stream;q=0.5, application/x-ndjson"):
        lines = await client.get(f"{AT}:watch?count=2", headers={"accept": accept})
        assert (lines.headers["content-type"], lines.headers["vary"]) == ("application/x-ndjson", "accept")
        assert [json.loads(line)["data"]["id"] for line in lines.text.splitlines()] == ["0", "1"]
    answer = await client.get(f"{AT}:watch?count=2", headers={"accept": "text/event-stream"})
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("text/event-stream", "no-cache")
    first, second, end = events(answer.text)
    assert first == ("1", "message", {"data": {**first[2]["data"], "id": "0", "text": "ü\nx"}})
    assert (second[0], end) == ("2", ("", "end", {}))
    refused = await client.get(f"{AT}:watch?count=2", headers={"accept": "application/json"})
    assert refused.status_code == 406


async def test_a_failure_in_mid_stream_is_the_last_that_is_said(client: httpx2.AsyncClient) -> None:
    lines = await client.get(f"{AT}:watch?count=1&fail=true")
    assert json.loads(lines.text.splitlines()[-1])["error"]["code"] == "NOT_FOUND"
    answer = await client.get(f"{AT}:watch?count=1&fail=true", headers={"accept": "text/event-stream"})
    (_, kind, data) = events(answer.text)[-1]
    assert (answer.status_code, kind, data["error"]["message"]) == (200, "error", "no more documents")
    early = await client.get(f"{AT}:watch?fail=true", headers={"accept": "text/event-stream"})
    assert (early.status_code, early.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_silence_is_filled_with_comments(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{AT}:watch?count=2&pause_ms=1000", headers={"accept": "text/event-stream"})
    assert answer.text.count(":\n\n") >= 3
    assert [each[:2] for each in events(answer.text)] == [("1", "message"), ("2", "message"), ("", "end")]


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
async def test_a_reader_who_leaves_closes_the_stream(
    client: httpx2.AsyncClient, documents: Documents, accept: str
) -> None:
    """Over HTTP/2 the whole connection goes: the client resets no streams."""
    async with client.stream("GET", f"{AT}:watch?count=1000000&pause_ms=5", headers={"accept": accept}) as answer:
        async for _ in answer.aiter_lines():
            break
    await client.aclose()
    await until(lambda: documents.closed == ["CLIENT_GONE"])


# --- callers who leave ----------------------------------------------------------------------------------------------


async def test_a_caller_who_leaves_cancels_the_call(client: httpx2.AsyncClient, documents: Documents) -> None:
    asking = asyncio.create_task(client.get(f"{AT}/d:wait"))
    await documents.waiting.wait()
    asking.cancel()
    await client.aclose()
    await until(lambda: documents.cancelled == ["CLIENT_GONE"])


async def test_a_caller_who_goes_on_waiting_is_left_alone(address: Address, documents: Documents) -> None:
    """Others hang up beside it, and its connection is reused; nothing but the end of its call ends it."""
    async with httpx2.AsyncClient(base_url=address.url, timeout=60) as client:
        staying = client.get(f"{AT}:watch?count=1&pause_ms=1500")
        reader = asyncio.create_task(staying)
        await documents.waiting.wait()
        _, leaving = await asyncio.open_connection(address.host, address.port)
        leaving.write(b"GET /api/v1/documents/d:wait HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: len(documents.requests) == 2)
        leaving.close()
        await until(lambda: documents.cancelled == ["CLIENT_GONE"])
        assert (await reader).status_code == 200
        assert (await client.get(f"{AT}/d")).status_code == 200


async def test_a_stray_cancellation_is_the_services_failure(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"{AT}/stray:wait")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "INTERNAL")
