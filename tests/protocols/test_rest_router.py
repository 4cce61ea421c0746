"""The router of REST: precedence, custom verbs, percent-encoding."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.contract.path_template import PathTemplate
from interlock.protocols.rest_router import Router, captured


def router(*routes: str) -> Router[str]:
    made: Router[str] = Router()
    for route in routes:
        method, path = route.split()
        made.add(method, PathTemplate.parse(path), route)
    return made


ROUTES = (
    "GET /v1/orders",
    "GET /v1/orders/{id}",
    "GET /v1/orders/search",
    "POST /v1/orders/{id}:cancel",
    "GET /v1/orders/{id}/items",
    "GET /v1/orders/search/{q}",
    "GET /v1/files/{path=**}",
    "GET /v1/files/{path=**}:stat",
    "GET /v1/files/readme",
    "GET /v1/{name=shelves/*}/books",
    "POST /v1/orders:batch",
)


@pytest.mark.parametrize(
    "asked, found",
    [
        ("GET /v1/orders", "GET /v1/orders"),
        ("GET /v1/orders/o-1", "GET /v1/orders/{id}"),
        ("GET /v1/orders/search", "GET /v1/orders/search"),
        ("GET /v1/orders/se%61rch", "GET /v1/orders/search"),
        ("GET /v1/orders/search/items", "GET /v1/orders/search/{q}"),
        ("GET /v1/orders/search2/items", "GET /v1/orders/{id}/items"),
        ("POST /v1/orders/o-1:cancel", "POST /v1/orders/{id}:cancel"),
        ("POST /v1/orders:batch", "POST /v1/orders:batch"),
        ("GET /v1/orders/urn:isbn:1", "GET /v1/orders/{id}"),
        ("GET /v1/files/a/b/c", "GET /v1/files/{path=**}"),
        ("GET /v1/files/a/b:stat", "GET /v1/files/{path=**}:stat"),
        ("GET /v1/files", "GET /v1/files/{path=**}"),
        ("GET /v1/files/readme", "GET /v1/files/readme"),
        ("GET /v1/files/readme/x", "GET /v1/files/{path=**}"),
        ("GET /v1/shelves/1/books", "GET /v1/{name=shelves/*}/books"),
        ("GET /v1/orders/", None),
        ("GET /v1/orders//items", None),
        ("GET /v1/orders/o-1/items/", None),
        ("GET /v2/orders", None),
        ("GET v1/orders", None),
        ("GET *", None),
        ("DELETE /v1/orders", None),
        ("GET /v1/orders/o-1:cancel", None),
        ("POST /v1/orders/:cancel", None),
    ],
)
def test_literals_win_over_one_segment_and_one_over_many(asked: str, found: str | None) -> None:
    method, path = asked.split()
    match = router(*ROUTES).find(method, path)
    assert (match and match.target) == found


def test_the_order_of_routes_does_not_matter() -> None:
    there, back = router(*ROUTES), router(*reversed(ROUTES))
    for path in ("/v1/orders/search", "/v1/orders/search/items", "/v1/files/readme/x", "/v1/files/readme"):
        first, second = there.find("GET", path), back.find("GET", path)
        assert first is not None
        assert second is not None
        assert first.target == second.target


def test_a_path_knows_its_methods() -> None:
    made = router(*ROUTES, "DELETE /v1/orders/{id}")
    assert made.methods("/v1/orders/o-1") == ("DELETE", "GET", "HEAD", "OPTIONS")
    assert made.methods("/v1/orders/o-1:cancel") == ("OPTIONS", "POST")
    assert made.methods("/nowhere") == ()


def test_two_routes_of_one_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="same shape"):
        router("GET /v1/{a}", "GET /v1/{b}")


@pytest.mark.parametrize(
    "template, path, value",
    [
        ("/v1/{id}", "/v1/a%2Fb%20c", "a/b c"),
        ("/v1/{id}", "/v1/%C3%BC", "ü"),
        ("/v1/{id}", "/v1/a+b", "a+b"),
        ("/v1/{id}", "/v1/a%3Ab", "a:b"),
        ("/v1/{id=**}", "/v1/a%2Fb/c%20d", "a%2Fb/c d"),
        ("/v1/{id=**}", "/v1/a%2fb", "a%2fb"),
        ("/v1/{id=**}", "/v1/a%252Fb", "a%2Fb"),
        ("/v1/{id=**}", "/v1", ""),
        ("/v1/{id=x/*}", "/v1/x/y%2Fz", "x/y%2Fz"),
    ],
)
def test_variables_are_decoded_as_http_proto_says(template: str, path: str, value: str) -> None:
    parsed = PathTemplate.parse(template)
    made: Router[str] = Router()
    made.add("GET", parsed, "x")
    match = made.find("GET", path)
    assert match is not None
    assert captured(parsed.variables[0], match.segments) == value


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=2))
def test_any_text_travels_in_a_variable(values: list[str]) -> None:
    template = PathTemplate.parse("/v1/{a}/b/{c}")
    made: Router[str] = Router()
    made.add("GET", template, "x")
    made.add("POST", PathTemplate.parse("/v1/{a}/b/{c}:stop"), "y")
    path = "/v1/{}/b/{}".format(*(quote(each, safe="") for each in values))
    match = made.find("GET", path)
    assert match is not None
    assert [captured(each, match.segments) for each in template.variables] == values


@given(st.text(st.sampled_from("/:%*{}av1.2Fsearchorders"), max_size=40))
def test_no_path_breaks_the_router(path: str) -> None:
    made = router(*ROUTES)
    match = made.find("GET", path)
    assert (match is not None) == ("GET" in made.methods(path))
