"""REST requests become messages: path, query, body, masks, limits."""

import gzip
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import Cancelled
from interlock.protocols.serving import Limits
from tests.protocols.orders import Orders, exchange, plain

KITCHEN = "/api/v1/kitchens/k"


async def test_a_path_variable_is_bound() -> None:
    orders = Orders()
    answer = await orders.ask("GET", "/api/v1/orders/o%2F1")
    assert (answer.status, orders.request.order_id) == (200, "o/1")


async def test_the_path_is_taken_from_the_decoded_one_where_the_server_has_no_other() -> None:
    orders = Orders()
    assert (await orders.ask("GET", "/api/v1/orders/ö 1", raw_path=None, path="/api/v1/orders/ö 1")).status == 200
    assert orders.request.order_id == "ö 1"


async def test_a_variable_of_the_wrong_type_names_its_field() -> None:
    answer = await Orders().ask("GET", "/api/v1/shelves/1/books/two")
    assert (answer.status, answer.fields) == (400, {"int64_value": "must be an integer of 64 bits"})


async def test_a_variable_that_is_not_utf_8_names_its_field() -> None:
    answer = await Orders().ask("GET", "/api/v1/orders/%FF")
    assert (answer.status, answer.fields) == (400, {"order_id": "is not UTF-8"})


@pytest.mark.parametrize(
    "query, read",
    [
        ("int32_value=-7", {"int32_value": -7}),
        ("int32Value=7", {"int32_value": 7}),
        ("uint64_value=18446744073709551615", {"uint64_value": "18446744073709551615"}),
        ("double_value=1.5e3", {"double_value": 1500.0}),
        ("double_value=NaN", {"double_value": "NaN"}),
        ("bool_value=true", {"bool_value": True}),
        ("bytes_value=_-8", {"bytes_value": "/+8="}),
        ("status=OPEN", {"status": "OPEN"}),
        ("status=2", {"status": "CLOSED"}),
        ("numbers=1&numbers=2", {"numbers": [1, 2]}),
        ("names=a+b&names=c%20d&names=", {"names": ["a b", "c d", ""]}),
        ("nested.int32_value=3&nested.names=x", {"nested": {"int32_value": 3, "names": ["x"]}}),
        ("nested.nested.nested.boolValue=true", {"nested": {"nested": {"nested": {"bool_value": True}}}}),
        ("at=2026-01-01T00:00:00Z", {"at": "2026-01-01T00:00:00Z"}),
        ("times=2026-01-01T00:00:00Z&times=2027-01-01T00:00:00Z", {
            "times": ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]
        }),
        ("lasting=1.5s", {"lasting": "1.500s"}),
        ("mask=shippingAddress.city,note", {"mask": "shippingAddress.city,note"}),
        ("mask=shipping_address.city", {"mask": "shippingAddress.city"}),
        ("wrapped_string=%22", {"wrapped_string": '"'}),
        ("wrapped_int64=9", {"wrapped_int64": "9"}),
        ("wrapped_bool=false", {"wrapped_bool": False}),
        ("red=x", {"red": "x"}),
        ("maybe=0", {"maybe": 0}),
        ("&&maybe=1&", {"maybe": 1}),
    ],
)  # fmt: skip
async def test_query_parameters_are_bound(query: str, read: dict[str, Any]) -> None:
    orders = Orders()
    answer = await orders.ask("GET", f"{KITCHEN}?{query}")
    assert answer.status == 200, answer.body
    assert plain(orders.request) == {"string_value": "k", **read}


@pytest.mark.parametrize(
    "query, field, says",
    [
        ("int32_valeu=1", "int32_valeu", "is unknown; did you mean 'int32_value'?"),
        ("zzz=1", "zzz", "is unknown"),
        ("nested.zzz=1", "nested.zzz", "is unknown"),
        ("int32_value.x=1", "int32_value.x", "is unknown"),
        ("int32_value=", "int32_value", "must be an integer of 32 bits"),
        ("int32_value=1.0", "int32_value", "must be an integer of 32 bits"),
        ("int32_value=%D9%A1", "int32_value", "must be an integer of 32 bits"),
        ("int32_value=2147483648", "int32_value", "must be an integer of 32 bits"),
        ("bool_value=True", "bool_value", "must be true or false"),
        ("double_value=inf", "double_value", "must be a number"),
        ("double_value=1_0", "double_value", "must be a number"),
        ("float_value=1e39", "float_value", "must be a number"),
        ("status=open", "status", "must be one of"),
        ("status=99999999999", "status", "must be one of"),
        ("at=now", "at", "must be a time"),
        ("lasting=1", "lasting", "must be seconds"),
        ("mask=a,,b", "mask", "must be paths"),
        ("wrapped_int64=x", "wrapped_int64", "must be an integer"),
        ("numbers=1&numbers=x", "numbers", "must be an integer"),
        ("maybe=1&maybe=1", "maybe", "is given twice"),
        ("int32_value=1&int32Value=1", "int32_value", "is given twice"),
        ("red=a&blue=1", "blue", "excludes red"),
        ("red=a&paid.units=1", "paid", "excludes red"),
        ("string_value=other", "string_value", "is given by the body or the path"),
        ("counts=1", "counts", "is a message or map"),
        ("nested=1", "nested", "is a message or map"),
        ("struct=1", "struct", "is a message or map"),
        ("children.int32_value=1", "children.int32_value", "is unknown"),
    ],
)
async def test_a_wrong_query_parameter_is_named(query: str, field: str, says: str) -> None:
    answer = await Orders().ask("GET", f"{KITCHEN}?{query}")
    assert answer.status == 400
    assert list(answer.fields) == [field]
    assert answer.fields[field].startswith(says)


async def test_all_wrong_parameters_are_told_at_once() -> None:
    answer = await Orders().ask("GET", "/api/v1/orders?page_size=x&nope=1&filter=a&filter=b")
    assert set(answer.fields) == {"page_size", "nope", "filter"}


async def test_the_number_of_parameters_is_bounded() -> None:
    orders = Orders(limits=Limits(query_parameters=5))
    assert (await orders.ask("GET", f"{KITCHEN}?" + "&".join(["names=a"] * 5))).status == 200
    assert (await orders.ask("GET", f"{KITCHEN}?" + "&".join(["names=a"] * 6))).status == 400


async def test_a_query_that_is_not_utf_8_is_refused() -> None:
    assert (await Orders().ask("GET", f"{KITCHEN}?names=%FF")).status == 400


@given(st.text(st.sampled_from("abnames_int32value.=&%+1;[]\x00ü"), max_size=60))
async def test_no_query_breaks_the_front(query: str) -> None:
    answer = await Orders().ask("GET", f"{KITCHEN}?{query}")
    assert answer.status in (200, 400)


async def test_a_whole_body_is_bound_in_either_spelling() -> None:
    orders = Orders()
    body = {"customerId": "c", "items": [{"sku": "a", "quantity": 2}], "dry_run": True}
    assert (await orders.ask("POST", "/api/v1/orders", body)).status == 201
    assert plain(orders.request) == {"customer_id": "c", "items": [{"sku": "a", "quantity": 2}], "dry_run": True}


async def test_an_empty_body_is_an_empty_message() -> None:
    orders = Orders()
    assert (await orders.ask("POST", "/api/v1/orders")).status == 201
    assert (await orders.ask("POST", "/api/v1/orders/o-1:cancel", chunks=[b"", b""])).status == 200
    assert orders.request.order_id == "o-1"


async def test_output_only_fields_are_dropped_however_deep() -> None:
    orders = Orders()
    given = {"template": {"id": "x", "status": "OPEN", "created_at": "2026-01-01T00:00:00Z"}}
    await orders.ask("POST", "/api/v1/orders", given)
    assert plain(orders.request) == {"template": {"id": "x"}}
    await orders.ask("PUT", "/api/v1/orders/o-1", {"status": "OPEN", "note": "n"})
    assert plain(orders.request.order) == {"id": "o-1", "note": "n"}


async def test_the_path_wins_and_a_body_may_not_contradict_it() -> None:
    orders = Orders()
    assert (await orders.ask("PUT", "/api/v1/orders/o-1", {"id": "o-1"})).status == 200
    answer = await orders.ask("PUT", "/api/v1/orders/o-1", {"id": "o-2"})
    assert (answer.status, answer.fields) == (400, {"order.id": "is not what the path says"})
    answer = await orders.ask("POST", "/api/v1/orders/o-1:cancel", {"order_id": "o-2"})
    assert (answer.status, answer.fields) == (400, {"order_id": "is not what the path says"})


async def test_a_mistake_in_a_body_field_is_named_from_the_request() -> None:
    answer = await Orders().ask("PUT", "/api/v1/orders/o-1", {"items": [{"quantity": "x"}]})
    assert list(answer.fields) == ["order.items[0].quantity"]


async def test_a_body_that_is_a_map_is_bound() -> None:
    orders = Orders()
    answer = await orders.ask("PUT", "/api/v1/orders/o-1/labels?note=n", {"a": "b"})
    assert (answer.status, answer.json["data"]) == (200, {})
    assert plain(orders.request) == {"order_id": "o-1", "labels": {"a": "b"}, "note": "n"}


async def test_put_replaces_everything() -> None:
    orders = Orders()
    await orders.ask("PUT", "/api/v1/orders/o-1?allow_missing=true", {"note": "n"})
    assert list(orders.request.update_mask.paths) == ["*"]
    assert orders.request.allow_missing
    assert (await orders.ask("PUT", "/api/v1/orders/o-1?update_mask=note", {"note": "n"})).status == 400


@pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"])
async def test_patch_changes_what_the_body_names(media_type: str) -> None:
    orders = Orders()
    body: dict[str, Any] = {
        "id": "o-1", "customerId": "c", "shippingAddress": {"city": "B"}, "note": None, "labels": {"a": "b"},
        "status": "OPEN", "total_amount": {}, "items": [],
    }  # fmt: skip
    answer = await orders.ask("PATCH", "/api/v1/orders/o-1", body, headers=[("content-type", media_type)])
    assert answer.status == 200
    labels = "labels.a" if "merge" in media_type else "labels"
    paths = ["customer_id", "shipping_address.city", "note", labels, "items"]
    assert list(orders.request.update_mask.paths) == paths
    assert not orders.request.order.has_field("note")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id":"o-1"}', b'{"status":"OPEN"}', b'{"shipping_address":{}}'])
async def test_a_patch_of_nothing_changes_nothing(body: bytes) -> None:
    orders = Orders()
    assert (await orders.ask("PATCH", "/api/v1/orders/o-1", body)).status == 200
    assert list(orders.request.update_mask.paths) == ["id"]  # an empty mask would mean all fields


async def test_an_explicit_mask_wins() -> None:
    orders = Orders()
    await orders.ask("PATCH", "/api/v1/orders/o-1?updateMask=shippingAddress.city", {"note": "n"})
    assert list(orders.request.update_mask.paths) == ["shipping_address.city"]


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"content-type": "application/json; charset=utf-8"}, 201),
        ({"content-type": 'Application/JSON;charset="UTF-8"'}, 201),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/merge-patch+json"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
        ({"content-encoding": "compress"}, 415),
        ({"content-encoding": "identity"}, 201),
    ],
)
async def test_only_json_in_utf_8_is_taken(headers: dict[str, str], status: int) -> None:
    answer = await Orders().ask("POST", "/api/v1/orders", b'{"dry_run":true}', headers=list(headers.items()))
    assert answer.status == status


async def test_gzip_is_inflated_within_the_limit() -> None:
    orders = Orders(limits=Limits(request_bytes=1000))
    gzipped = [("content-encoding", "gzip")]
    assert (
        await orders.ask("POST", "/api/v1/orders", gzip.compress(b'{"dry_run":true}'), headers=gzipped)
    ).status == 201
    assert orders.request.dry_run
    bomb = gzip.compress(b'{"customer_id":"' + b" " * 100_000 + b'"}')
    assert len(bomb) < 1000
    assert (await orders.ask("POST", "/api/v1/orders", bomb, headers=gzipped)).status == 413
    for broken in (b"{}", gzip.compress(b"{}")[:-3], zlib.compress(b"{}")):
        assert (await orders.ask("POST", "/api/v1/orders", broken, headers=gzipped)).status == 400


async def test_a_large_body_is_refused_before_it_is_read() -> None:
    orders = Orders(limits=Limits(request_bytes=100))
    assert (await orders.ask("POST", "/api/v1/orders", b" " * 99 + b"{}")).status == 413
    read = 0

    async def endless() -> None:
        nonlocal read

        async def receive() -> dict[str, Any]:
            nonlocal read
            read += 1
            return {"type": "http.request", "body": b" " * 30, "more_body": True}

        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/api/v1/orders", "headers": headers}
        await orders.server(scope, receive, send)
        assert sent[0]["status"] == 413

    await endless()
    assert read <= 5


async def test_a_body_in_pieces_is_put_together() -> None:
    orders = Orders()
    answer = await orders.ask("POST", "/api/v1/orders", chunks=[b"", b'{"dry_', b'run":', b"true}"])
    assert (answer.status, orders.request.dry_run) == (201, True)


async def test_a_caller_who_leaves_while_sending_cancels_the_call() -> None:
    orders = Orders()
    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/orders", "headers": [(b"content-type", b"application/json")]
    }  # fmt: skip
    answer = await exchange(orders.server, scope, [])
    assert answer.status == 499
    assert isinstance(orders.ended[0], Cancelled)


@pytest.mark.parametrize("scope", [{}, {"http_version": "2"}])
async def test_a_body_where_the_contract_has_none_is_refused(scope: dict[str, Any]) -> None:
    orders = Orders()
    assert (await orders.ask("GET", "/api/v1/orders/o-1", b"{}", **scope)).status == 400
    assert (await orders.ask("DELETE", "/api/v1/orders/o-1", b"{}", **scope)).status == 400
    assert (await orders.ask("GET", "/api/v1/orders/o-1", **scope)).status == 200
    assert (await orders.ask("GET", "/api/v1/orders/o-1", headers=[("content-length", "0")], **scope)).status == 200


async def test_a_body_without_a_length_is_seen() -> None:
    orders = Orders()
    chunked = [("transfer-encoding", "chunked")]
    assert (await orders.ask("GET", "/api/v1/orders/o-1", chunks=[b"{}"], headers=chunked)).status == 400
    assert (await orders.ask("GET", "/api/v1/orders/o-1", chunks=[b"{}"], http_version="2")).status == 400


@given(st.binary(max_size=100))
async def test_no_body_breaks_the_front(body: bytes) -> None:
    answer = await Orders().ask("PATCH", "/api/v1/orders/o-1", body)
    assert answer.status in (200, 400)


async def test_a_body_that_came_whole_is_not_waited_for_when_it_is_refused() -> None:
    """Nothing is read behind its last part: the connection is free for the next request at once."""
    parts = [{"type": "http.request", "body": b"0", "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)  # IndexError if more is asked for

    async def send(event: Any) -> None:
        sent.append(event)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"1")]
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/api/v1/orders", "headers": headers,
        "raw_path": b"/api/v1/orders", "query_string": b"", "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await Orders().server(scope, receive, send)
    assert sent[0]["status"] == 400
    assert not sent[-1].get("more_body")
