"""Header fields that REST reads, as the standards write them and as nobody should."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.contract.path_template import PathTemplate
from interlock.errors import InvalidArgument
from interlock.metadata import Metadata
from interlock.protocols.mask_paths import mask_key, split_path
from interlock.protocols.rest_fields import (
    ANY,
    elements,
    entity_tag,
    entity_tags,
    preferred,
    wants_minimal,
    weakly_match,
    whole,
)
from interlock.protocols.rest_router import Router, captured

HOSTILE = st.one_of(st.binary(max_size=200), st.text('*/,;=q"\\ W01.9abc', max_size=60).map(str.encode))
LINES, EVENTS = b"application/x-ndjson", b"text/event-stream"


@pytest.mark.parametrize(
    "accept, chosen",
    [
        (None, LINES),
        (b"text/event-stream", EVENTS),
        (b"*/*;q=0.1, text/event-stream", EVENTS),
        (b"*/*, text/event-stream;q=0.9", LINES),
        (b"text/*, application/*;q=0.5", EVENTS),
        (b'text/html;a=",text/event-stream"', None),
        (b"text/event-stream;q=2", None),
        (b"text/event-stream;q=0.000", None),
        (b"text/event-stream;q=1.000", EVENTS),
        (b",,", None),
    ],
)
def test_the_heaviest_media_type_is_chosen(accept: bytes | None, chosen: bytes | None) -> None:
    assert preferred(accept, (LINES, EVENTS)) == chosen


@pytest.mark.parametrize(
    "value, tags",
    [
        (b"*", ANY),
        (b'"a"', {b'"a"'}),
        (b'"a,b", W/"c" ,"\\"', {b'"a,b"', b'W/"c"', b'"\\"'}),
        (b'""', {b'""'}),
    ],
)
def test_entity_tags_are_read(value: bytes, tags: set[bytes]) -> None:
    assert entity_tags(value, "If-Match") == tags


@pytest.mark.parametrize("value", [b"", b",", b"a", b'"a', b'"a""b"', b'w/"a"', b'"a" "b"', b'*,"a"', b'"a", *'])
def test_what_is_no_entity_tag_is_the_callers_mistake(value: bytes) -> None:
    with pytest.raises(InvalidArgument, match="If-Match"):
        entity_tags(value, "If-Match")


@pytest.mark.parametrize("etag", ["", "a b", 'a"b', "ü", "a\r\nb", "\x7f"])
def test_an_etag_that_no_header_can_carry_is_left_out(etag: str) -> None:
    assert entity_tag(etag) is None


def test_preferences_are_read() -> None:
    assert wants_minimal(b"wait=10, Return = minimal; a=b")
    assert wants_minimal(b'return="minimal"')
    assert not wants_minimal(b"return=representation, return=minimal")  # the first counts
    assert not wants_minimal(b'x="return=minimal"')
    lines = Metadata([("prefer", "wait=1"), ("x-y", "z"), ("prefer", "return=minimal")])
    assert wants_minimal(whole(lines, b"prefer") or b"")


@given(HOSTILE)
def test_no_field_breaks_its_reader(value: bytes) -> None:
    """Whatever stands there is read, or refused as the caller's mistake."""
    assert preferred(value, (LINES, EVENTS)) in (None, LINES, EVENTS)
    assert wants_minimal(value) in (True, False)
    assert len(elements(value * 50)) <= 100
    with contextlib.suppress(InvalidArgument):
        weakly_match(entity_tags(value, "If-Match"), b'"a"')


@given(st.text(max_size=40))
def test_an_etag_goes_out_and_comes_back(etag: str) -> None:
    tag = entity_tag(etag)
    if tag is not None:
        assert entity_tags(tag, "If-Match") == {tag}
        assert tag[1:-1].decode() == etag


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
def test_keys_survive_in_paths(keys: list[str]) -> None:
    assert split_path(".".join(map(mask_key, keys))) == keys


@given(st.text(max_size=60))
def test_no_path_breaks_its_reader(path: str) -> None:
    assert all(isinstance(each, str) for each in split_path(path))


@given(st.one_of(st.text(max_size=60), st.text("/{}*=:%ab.", max_size=40)))
def test_no_template_or_path_breaks_the_router(text: str) -> None:
    """A template is read or refused with ValueError; a path finds a route or none."""
    router: Router[str] = Router()
    for template in ("/v1/{name=a/*}/b", "/v1/{rest=**}", "/v1/{id}:go", text):
        with contextlib.suppress(ValueError):
            router.add("GET", PathTemplate.parse(template), template)
    for path in (text, "/" + text, "/v1/" + text, "/v1/a/" + text + ":go"):
        found = router.find("GET", path)
        if found is not None:
            for variable in PathTemplate.parse(found.target).variables:
                with contextlib.suppress(UnicodeDecodeError):
                    assert isinstance(captured(variable, found.segments), str)
        assert isinstance(router.methods(path), tuple)
