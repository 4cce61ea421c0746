"""Partial updates by mask (AIP-134, AIP-161)."""

import pytest
from protobuf import Oneof
from protobuf.wkt.google.protobuf.duration_pb import Duration
from protobuf.wkt.google.protobuf.field_mask_pb import FieldMask

from interlock import InvalidArgument, apply_mask
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, Item, Place


def masked(target: EchoRequest, source: EchoRequest, *paths: str) -> EchoRequest:
    """Apply a mask of these paths."""
    return apply_mask(target, source, FieldMask(paths=list(paths)))


def test_only_the_named_fields_change() -> None:
    """What the mask names comes from the source, everything else stays; the target itself is changed."""
    target = EchoRequest(text="old", ratio=1.0, tags=["a"])
    result = masked(target, EchoRequest(text="new", ratio=2.0, tags=["b", "c"]), "text", "tags")
    assert result is target
    assert (target.text, target.ratio, list(target.tags)) == ("new", 1.0, ["b", "c"])


@pytest.mark.parametrize("mask", [None, FieldMask(), FieldMask(paths=["*"]), FieldMask(paths=["text", "*"])])
def test_no_mask_means_every_field(mask: FieldMask | None) -> None:
    """No mask, an empty one and `*` replace all, and clear what the source lacks."""
    source = EchoRequest(text="new", number=0)
    assert apply_mask(EchoRequest(text="old", loud=True, place=Place(city="Bergen")), source, mask) == source


def test_what_the_source_lacks_is_cleared() -> None:
    """A named field without a value in the source has none afterwards, of every kind."""
    target = EchoRequest(
        text="x", number=1, tags=["a"], labels={"a": "b"}, place=Place(city="c"), pause=Duration(seconds=1)
    )
    masked(target, EchoRequest(), "text", "number", "tags", "labels", "place", "pause")
    assert target == EchoRequest()


def test_a_path_goes_into_messages() -> None:
    """One field of a nested message changes without its neighbours, and the message is made where it was absent."""
    target = EchoRequest(place=Place(street="1 Main", city="Oslo"))
    masked(target, EchoRequest(place=Place(city="Bergen")), "place.city")
    assert target.place == Place(street="1 Main", city="Bergen")
    empty = masked(EchoRequest(), EchoRequest(place=Place(street="2 Main", city="Bergen")), "place.city")
    assert empty.place == Place(city="Bergen")


def test_a_nested_field_of_an_absent_message_is_cleared() -> None:
    """Without the message in the source its named field is cleared; absent on both sides stays absent."""
    target = masked(EchoRequest(place=Place(street="1 Main", city="Oslo")), EchoRequest(), "place.city")
    assert target.place == Place(street="1 Main")
    assert masked(EchoRequest(), EchoRequest(), "place.city").place is None


def test_a_member_of_a_oneof_replaces_the_other() -> None:
    """Naming one member sets it, and with it the other is gone."""
    room: Oneof[str, int] = Oneof(field="room", value=7)
    person: Oneof[str, str] = Oneof(field="person", value="Ada")
    target = masked(EchoRequest(target=person), EchoRequest(target=room), "room")  # type: ignore[arg-type]
    assert target.target == room


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "nothing",
        "place.nothing",
        "place.",
        ".place",
        "text.length",
        "items.sku",
        "labels.a.b",
        "labels.`a",
        "labels.",
        "createdAt",
    ],
)
def test_a_path_that_is_no_field_is_named_and_nothing_changes(path: str) -> None:
    """A wrong path is the caller's mistake, named, and the target is untouched even by the right paths beside it."""
    target = EchoRequest(text="old", items=[Item(sku="a")])
    with pytest.raises(InvalidArgument) as raised:
        masked(target, EchoRequest(text="new"), "text", path)
    (violation,) = raised.value.violations
    assert violation.field == "update_mask"
    assert repr(path) in violation.description
    assert target == EchoRequest(text="old", items=[Item(sku="a")])


def test_a_path_given_twice_is_applied_once() -> None:
    """Repetitions and overlaps are harmless."""
    target = masked(EchoRequest(), EchoRequest(place=Place(city="a", street="b")), "place", "place", "place.city")
    assert target.place == Place(city="a", street="b")


def test_a_path_of_any_length_is_answered() -> None:
    """A hostile path of a hundred thousand names is refused as any other."""
    with pytest.raises(InvalidArgument):
        masked(EchoRequest(), EchoRequest(), ".".join(["place"] * 100_000))
