"""REST replies and errors: envelopes, statuses, headers."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from interlock import errors
from interlock.call import Call, Cancellation, current_call
from interlock.protocols.rest_fields import preferred
from interlock.protocols.serving import Limits
from tests.protocols.orders import Orders, contract, message

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


async def test_a_reply_stands_in_its_envelope() -> None:
    order = message("Order")(id="ö", total_amount=message("Money")(units=12))
    answer = await Orders(order).ask("GET", "/api/v1/orders/o-1", headers=[("x-request-id", "abc-1")])
    assert answer.status == 200
    assert answer.header("content-type") == "application/json"
    assert answer.header("x-request-id") == "abc-1"
    assert answer.json["data"] == {
        "id": "ö", "customer_id": "", "items": [], "total_amount": {"currency": "", "units": "12", "nanos": 0},
        "status": "STATUS_UNSPECIFIED", "labels": {}, "etag": "",
    }  # fmt: skip
    meta = answer.json["meta"]
    assert TIMESTAMP.match(meta.pop("timestamp"))
    assert meta == {"version": "1.0", "request_id": "abc-1"}


async def test_an_unsound_request_id_is_replaced() -> None:
    answer = await Orders().ask("GET", "/api/v1/orders/o-1", headers=[("x-request-id", 'a"b')])
    assert answer.header("x-request-id") == answer.json["meta"]["request_id"] != 'a"b'


async def test_a_page_has_its_items_as_data_and_the_rest_as_meta() -> None:
    order = message("Order")
    page = message("ListOrdersResponse")(
        orders=[order(id="a"), order(id='"orders":[]')], next_page_token='t","orders":[]', total_size=7
    )
    answer = await Orders(page).ask("GET", "/api/v1/orders")
    assert [each["id"] for each in answer.json["data"]] == ["a", '"orders":[]']
    assert answer.json["meta"]["next_page_token"] == 't","orders":[]'
    assert answer.json["meta"]["total_size"] == 7
    assert answer.json["meta"]["version"] == "1.0"
    empty = await Orders().ask("GET", "/api/v1/orders")
    assert (empty.json["data"], empty.json["meta"]["next_page_token"]) == ([], "")


async def test_a_page_may_tell_more_beside_its_items() -> None:
    line, money = message("Line"), message("Money")
    page = message("ListLinesResponse")
    bare = await Orders(page(lines=[line(text='"lines":[]')])).ask("GET", "/api/v1/orders/o-1/lines")
    assert bare.json["data"] == [{"line_id": "", "text": '"lines":[]'}]
    more = {"next_page_token": "", "unreachable": [], "counts": {}}
    assert {name: bare.json["meta"].get(name) for name in more} == more
    assert not {"total_size", "sum", "lines"} & set(bare.json["meta"])
    full = page(total_size=0, sum=money(units=2), unreachable=["a"], counts={"x": 1})
    meta = (await Orders(full).ask("GET", "/api/v1/orders/o-1/lines")).json["meta"]
    assert (meta["total_size"], meta["sum"]["units"], meta["unreachable"], meta["counts"]) == (0, "2", ["a"], {"x": 1})


async def test_response_body_is_one_field() -> None:
    kitchen = message("Kitchen")
    full = await Orders(kitchen(nested=kitchen(int32_value=4))).ask("POST", "/api/v1/kitchens")
    assert full.json["data"]["int32_value"] == 4
    assert (await Orders().ask("POST", "/api/v1/kitchens")).json["data"] is None


@pytest.mark.parametrize(
    "verb, path, body, location",
    [
        ("POST", "/api/v1/orders", {}, "/api/v1/orders/o%2F1%20%C3%B6%0D%0A"),
        ("POST", "/api/v1/orders/o%2F7/lines", {"text": "x"}, "/api/v1/orders/o%2F7/lines/l%201"),
    ],
)
async def test_a_creation_tells_where(verb: str, path: str, body: Any, location: str) -> None:
    def reply(call: Call) -> Any:
        made = {"Order": {"id": "o/1 ö\r\n"}, "Line": {"line_id": "l 1"}}
        return call.operation.reply_type(**made[call.operation.reply_type.desc().name])

    answer = await Orders(reply).ask(verb, path, body)
    assert (answer.status, answer.header("location")) == (201, location)


async def test_a_creation_without_an_id_has_no_location() -> None:
    answer = await Orders().ask("POST", "/api/v1/orders")
    assert (answer.status, answer.header("location")) == (201, None)


async def test_a_custom_verb_creates_nothing() -> None:
    assert (await Orders().ask("POST", "/api/v1/orders/o-1:cancel")).status == 200


async def test_an_empty_delete_has_no_body() -> None:
    answer = await Orders().ask("DELETE", "/api/v1/orders/o-1")
    assert (answer.status, answer.body, answer.header("content-type")) == (204, b"", None)
    assert answer.header("x-request-id")


async def test_what_the_handler_sets_is_sent() -> None:
    def reply(call: Call) -> None:
        call.reply_headers.add("x-one", "1")
        call.reply_trailers.add("x-two", "2")

    answer = await Orders(reply).ask("GET", "/api/v1/orders/o-1")
    assert (answer.header("x-one"), answer.header("x-two")) == ("1", "2")


async def test_a_reply_past_its_limit_is_an_error_of_the_service() -> None:
    answer = await Orders(message("Order")(id="x" * 500), Limits(reply_bytes=400)).ask("GET", "/api/v1/orders/o-1")
    assert (answer.status, answer.error["code"]) == (500, "INTERNAL")


@pytest.mark.parametrize(
    "accept, status",
    [
        ("*/*", 200),
        ("application/json", 200),
        ("application/*;q=0.1", 200),
        ("text/html, application/json;q=0.9", 200),
        ("text/html, */*;q=0.1", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("text/html", 406),
        ("application/json;q=0, */*", 406),
        ("application/*;q=0, */*", 406),
        ("*/*;q=0", 406),
        ("application/json;q=x", 406),
        ("", 406),
    ],
)
async def test_accept_is_heeded(accept: str, status: int) -> None:
    answer = await Orders().ask("GET", "/api/v1/orders/o-1", headers=[("accept", accept)])
    assert answer.status == status
    assert (preferred(accept.encode(), (b"application/json",)) is not None) == (status == 200)


ERRORS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.Error)]


@pytest.mark.parametrize("kind", ERRORS)
async def test_every_error_has_the_envelope(kind: type[errors.Error]) -> None:
    def fail(call: Call) -> None:
        call.reply_headers.add("x-kept", "1")
        raise kind("what", reason="WHY", violations=[errors.Violation(field="items[0]", description="bad")])

    orders = Orders(fail)
    answer = await orders.ask("GET", "/api/v1/orders/o-1")
    assert answer.status == kind.http_status
    assert answer.error == {
        "code": kind.rest_code, "message": "what", "reason": "WHY", "details": [{"field": "items[0]", "message": "bad"}]
    }  # fmt: skip
    assert set(answer.json["meta"]) == {"timestamp", "request_id"}
    assert answer.header("x-request-id") == answer.json["meta"]["request_id"]
    assert answer.header("x-kept") == "1"
    assert (answer.header("www-authenticate") == "Bearer") == (kind.http_status == 401)
    assert (answer.header("retry-after") == "1") == (kind.http_status in (429, 503))
    assert [type(each) for each in orders.ended] == [kind]


@pytest.mark.parametrize("wait, seconds", [(0, "1"), (0.2, "1"), (1.2, "2"), (60, "60"), (-3, "1")])
async def test_retry_after_is_whole_seconds_rounded_up(wait: float, seconds: str) -> None:
    def fail(call: Call) -> None:
        raise errors.Aborted("later", retry_after=timedelta(seconds=wait))

    assert (await Orders(fail).ask("GET", "/api/v1/orders/o-1")).header("retry-after") == seconds


async def test_the_metadata_of_an_error_is_sent_and_what_cannot_travel_is_a_bug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(call: Call) -> None:
        raise errors.NotFound("x", metadata=[("x-a", "1")])

    def worse(call: Call) -> None:
        raise errors.NotFound("x", metadata=[("x-a", "line\nbreak")])

    assert (await Orders(fail).ask("GET", "/api/v1/orders/o-1")).header("x-a") == "1"
    with caplog.at_level(logging.CRITICAL):
        answer = await Orders(worse).ask("GET", "/api/v1/orders/o-1")
    assert (answer.status, answer.header("x-a")) == (500, None)


async def test_an_unexpected_exception_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: Call) -> None:
        raise RuntimeError("secret")

    answer = await Orders(fail).ask("GET", "/api/v1/orders/o-1")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert "secret" in caplog.text


async def test_a_long_text_is_clipped() -> None:
    def fail(call: Call) -> None:
        many = [errors.Violation(field="f" * 1000, description="d" * 10_000)] * 100
        raise errors.InvalidArgument("m" * 100_000, violations=many)

    answer = await Orders(fail).ask("GET", "/api/v1/orders/o-1")
    assert (answer.status, len(answer.error["details"])) == (400, 32)
    assert len(answer.body) < 40_000


async def test_a_path_that_nothing_serves() -> None:
    orders = Orders()
    for path in ("/", "/nowhere", "/api/v1/orders/", "/api/v1/orders/a/b/c", "*"):
        answer = await orders.ask("GET", path)
        assert (answer.status, answer.error["code"]) == (404, "NOT_FOUND")
        assert answer.header("x-request-id")
    assert len((await orders.ask("GET", "/" + "x" * 5000)).body) < 500
    assert orders.calls == []


@pytest.mark.parametrize("verb", ["TRACE", "get", "QUERY", "X" * 1000])
async def test_a_path_without_the_method_tells_which_it_has(verb: str) -> None:
    answer = await Orders().ask(verb, "/api/v1/orders/o-1")
    assert (answer.status, answer.error["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert answer.header("allow") == "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"
    assert len(answer.body) < 500


async def test_a_deadline_comes_from_the_contract_and_the_caller() -> None:
    orders = Orders()
    await orders.ask("GET", "/api/v1/orders/o-1")
    assert 29 < orders.calls[-1].deadline.remaining() <= 30
    await orders.ask("GET", "/api/v1/orders/o-1", headers=[("grpc-timeout", "2S")])
    assert 1 < orders.calls[-1].deadline.remaining() <= 2
    await orders.ask("GET", "/api/v1/orders/o-1", headers=[("grpc-timeout", "2H")])
    assert 29 < orders.calls[-1].deadline.remaining() <= 30
    assert (await orders.ask("GET", "/api/v1/orders/o-1", headers=[("grpc-timeout", "soon")])).status == 400


async def test_the_call_is_there_while_it_runs_and_ended_once() -> None:
    orders = Orders()

    def look(call: Call) -> None:
        assert current_call.get() is call
        assert orders.in_flight.calls == {call}
        assert call.peer.address == "127.0.0.1:1"
        assert call.protocol == "rest"
        assert str(call.incoming.binding) == "GET /api/v1/orders/{order_id}"  # type: ignore[union-attr]

    orders.reply = look
    assert (await orders.ask("GET", "/api/v1/orders/o-1")).status == 200
    assert orders.in_flight.calls == set()
    assert orders.ended == [None]


@pytest.mark.parametrize(
    "reason, status",
    [
        (Cancellation.DEADLINE, 504),
        (Cancellation.DRAIN, 503),
        (Cancellation.PARENT, 499),
    ],
)
async def test_a_cancelled_call_answers_by_its_reason(reason: Cancellation, status: int) -> None:
    async def stay(call: Call) -> None:
        asyncio.get_running_loop().call_soon(call.cancel, reason)
        await asyncio.sleep(60)

    orders = Orders(stay)
    answer = await asyncio.create_task(orders.ask("GET", "/api/v1/orders/o-1"))
    assert (answer.status, len(orders.ended)) == (status, 1)


async def test_a_server_that_cancels_the_task_ends_the_call_as_its_caller_gave_up() -> None:
    orders = Orders(lambda call: asyncio.sleep(60))
    task = asyncio.create_task(orders.ask("GET", "/api/v1/orders/o-1"))
    await asyncio.sleep(0.01)
    task.cancel()
    assert (await task).status == 499
    assert [type(each) for each in orders.ended] == [errors.Cancelled]
    assert orders.in_flight.calls == set()


def stream(*ids: str, fail: bool = False) -> Any:
    async def messages() -> AsyncIterator[Any]:
        for each in ids:
            yield message("Order")(id=each)
        if fail:
            raise errors.Unavailable("gone")

    return lambda call: messages()


def lines(body: bytes) -> list[Any]:
    assert body == b"" or body.endswith(b"\n")
    return [json.loads(line) for line in body.splitlines()]


async def test_a_server_stream_is_a_line_each() -> None:
    orders = Orders(stream("a", "b"))
    answer = await orders.ask("GET", "/api/v1/orders:watch")
    assert (answer.status, answer.header("content-type")) == (200, "application/x-ndjson")
    assert [each["data"]["id"] for each in lines(answer.body)] == ["a", "b"]
    assert orders.ended == [None]
    assert (await Orders(stream()).ask("GET", "/api/v1/orders:watch")).body == b""
    refused = await orders.ask("GET", "/api/v1/orders:watch", headers=[("accept", "application/json")])
    assert refused.status == 406


async def test_a_stream_that_fails_ends_with_the_error() -> None:
    late = await Orders(stream("a", fail=True)).ask("GET", "/api/v1/orders:watch")
    assert late.status == 200
    assert lines(late.body)[1]["error"]["code"] == "UNAVAILABLE"
    early = await Orders(stream(fail=True)).ask("GET", "/api/v1/orders:watch")
    assert (early.status, early.error["code"]) == (503, "UNAVAILABLE")


def test_every_binding_of_the_contract_is_served() -> None:
    assert sum(len(each.http) for each in contract().operations.values()) == 16
