"""JSON from strangers: depth, and the path of whatever is wrong."""

import json
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import InvalidArgument
from interlock.protocols.json_codec import depth_exceeds, field_from_json, from_json, to_json
from tests.protocols.orders import message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('[]{}"\\ab')),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.sampled_from('[{"\\}]'), max_size=3), inner),
    max_leaves=30,
)


def depth_of(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 0


@given(JSON)
def test_depth_is_exact_for_valid_json(value: Any) -> None:
    data = json.dumps(value).encode()
    depth = depth_of(value)
    assert not depth_exceeds(data, depth)
    assert depth == 0 or depth_exceeds(data, depth - 1)


@given(st.text(st.sampled_from('[]{}"\\,:1 n'), max_size=200))
def test_depth_is_never_too_low_for_what_a_parser_reads(text: str) -> None:
    """A parser goes deeper only on brackets outside strings, and stops at its first mistake."""
    depth = deepest = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            inside = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
            if depth < 0:
                break
        elif char == "\\":
            break
    assert deepest == 0 or depth_exceeds(text.encode(), deepest - 1)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"nested":', '[{"struct":{"a":', '{"value":['])
def test_deep_json_is_refused_and_the_process_lives(opening: str) -> None:
    script = (
        "import sys\n"
        "from interlock.errors import InvalidArgument\n"
        "from interlock.protocols.json_codec import from_json\n"
        "from tests.protocols.orders import message\n"
        "try:\n"
        "    from_json(message('Kitchen'), sys.argv[1].encode() * 20000, depth=100)\n"
        "except InvalidArgument as wrong:\n"
        "    print(wrong.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, opening], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nested more than 100 deep" in done.stdout


def test_as_deep_as_allowed_is_read() -> None:
    kitchen = message("Kitchen")
    data = b'{"nested":' * 99 + b"{}" + b"}" * 99
    assert from_json(kitchen, data, depth=100).nested is not None
    with pytest.raises(InvalidArgument, match="nested"):
        from_json(kitchen, b'{"nested":' + data + b"}", depth=100)


def wrong(data: bytes | Any, name: str = "Kitchen", root: str = "") -> dict[str, str]:
    given = data if isinstance(data, bytes) else json.dumps(data).encode()
    with pytest.raises(InvalidArgument) as caught:
        from_json(message(name), given, depth=100, root=root)
    return {each.field: each.description for each in caught.value.violations}


@pytest.mark.parametrize(
    "value, field, says",
    [
        ({"int32_value": "x"}, "int32_value", "must be an integer of 32 bits"),
        ({"int32Value": 1.5}, "int32_value", "must be an integer of 32 bits"),
        ({"int32_value": 2**31}, "int32_value", "must be an integer of 32 bits"),
        ({"uint64_value": "-1"}, "uint64_value", "must be an integer of 64 bits, not negative"),
        ({"bool_value": "true"}, "bool_value", "must be true or false"),
        ({"string_value": 1}, "string_value", "must be a string"),
        ({"bytes_value": "!"}, "bytes_value", "must be a string in base64"),
        ({"float_value": 1e300}, "float_value", "must be a number"),
        ({"status": "OPNE"}, "status", "must be one of STATUS_UNSPECIFIED, OPEN, CLOSED"),
        ({"numbers": 1}, "numbers", "must be a list"),
        ({"numbers": [1, None]}, "numbers[1]", "must be an integer of 32 bits"),
        ({"counts": []}, "counts", "must be an object"),
        ({"counts": {"a": "x"}}, 'counts["a"]', "must be an integer of 32 bits"),
        ({"by_id": {"x": {}}}, 'by_id["x"]', "the key must be an integer of 64 bits"),
        ({"by_id": {"1": {"quantity": "x"}}}, 'by_id["1"].quantity', "must be an integer of 32 bits"),
        ({"by_flag": {"yes": "x"}}, 'by_flag["yes"]', "the key must be true or false"),
        ({"nested": []}, "nested", "must be an object"),
        ({"children": [{}, {"nested": {"names": [1]}}]}, "children[1].nested.names[0]", "must be a string"),
        ({"children": [None]}, "children[0]", "must be an object"),
        ({"at": "today"}, "at", "must be a time of RFC 3339"),
        ({"times": ["2026-01-01T00:00:00Z", 4]}, "times[1]", "must be a time of RFC 3339"),
        ({"lasting": "1 min"}, "lasting", "must be seconds with an s"),
        ({"mask": "a_b"}, "mask", "must be paths in lowerCamelCase"),
        ({"wrapped_int64": "x"}, "wrapped_int64", "must be an integer of 64 bits"),
        ({"struct": 1}, "struct", "must be an object"),
        ({"any": {"@type": "nothing"}}, "any", "must be an object with an"),
        ({"int32_valeu": 1}, "int32_valeu", "is unknown; did you mean 'int32_value'?"),
        ({"nested": {"xyzzy": 1}}, "nested.xyzzy", "is unknown"),
        ({"paid": {"units": True}}, "paid.units", "must be an integer of 64 bits"),
        ({"status": 2**31}, "status", "must be one of STATUS_UNSPECIFIED, OPEN, CLOSED"),
        ({"children": [{}, {"status": -(2**31) - 1}]}, "children[1].status", "must be one of STATUS_UNSPECIFIED"),
        ({"red": "a", "blue": 1}, "blue", "can't be set beside red"),
        ({"children": [{"blue": 1, "paid": {}}]}, "children[0].paid", "can't be set beside blue"),
        (b'{"red": "a", "bl\\u0075e": 1}', "blue", "can't be set beside red"),
    ],
)
def test_a_mistake_is_told_with_its_path(value: Any, field: str, says: str) -> None:
    (found,) = wrong(value).items()
    assert found[0] == field
    assert found[1].startswith(says)


@pytest.mark.parametrize(
    "value",
    [
        {"status": 2**31 - 1},
        {"status": -(2**31)},
        {"red": "a", "blue": None},
        {"red": "blue", "string_value": "9" * 10},
    ],
)
def test_what_only_looks_like_a_mistake_is_taken(value: Any) -> None:
    assert from_json(message("Kitchen"), json.dumps(value).encode(), depth=100).to_binary()


def test_all_mistakes_are_told_at_once_but_no_more_than_32() -> None:
    assert set(wrong({"numbers": ["x"], "status": "y", "zzz": 1})) == {"numbers[0]", "status", "zzz"}
    assert len(wrong({"numbers": ["x"] * 100})) == 32


def test_the_path_starts_at_the_root_given() -> None:
    assert set(wrong({"quantity": "x"}, "Item", root="order.items[3]")) == {"order.items[3].quantity"}


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "no valid JSON"),
        (b"{", "no valid JSON"),
        (b"{} x", "no valid JSON"),
        (b"\xef\xbb\xbf{}", "no valid JSON"),
        (b'{"string_value":"\xff"}', "not UTF-8"),
        (b'{"double_value":NaN}', '"NaN"'),
        (b'{"int64_value":' + b"9" * 5000 + b"}", "no valid JSON"),
    ],
)
def test_what_is_no_json_is_told_in_words(data: bytes, says: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_json(message("Kitchen"), data, depth=100)
    assert says in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("data", [b'{"string_value":"\\ud800"}', b'{"double_value":1e999}', b"[]", b"null", b"3"])
def test_no_odd_value_escapes_as_another_exception(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        from_json(message("Kitchen"), data, depth=100)


def test_texts_repeat_little_of_the_input() -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_json(message("Kitchen"), json.dumps({"x" * 10_000: 1, "\x00\n": 2}).encode(), depth=100)
    assert all(len(each.field) <= 100 and each.field.isprintable() for each in caught.value.violations)


def test_both_spellings_and_proto_json_forms_are_read() -> None:
    data = (
        b'{"int32Value":"7","int64_value":1e3,"doubleValue":"NaN","floatValue":"-Infinity","bytes_value":"_-8",'
        b'"status":2,"nested":null,"value":null,"wrappedString":"x","struct":{"a":[1,null]},"nullValue":null}'
    )
    read = from_json(message("Kitchen"), data, depth=100)
    assert (read.int32_value, read.int64_value, read.double_value != read.double_value) == (7, 1000, True)
    assert (read.bytes_value, read.status, read.nested) == (b"\xff\xef", 2, None)


def test_a_field_alone_can_not_smuggle_in_others() -> None:
    kitchen = message("Kitchen")
    assert field_from_json(kitchen, "numbers", b"[1,2]", depth=10).numbers == [1, 2]
    for data in (b'[1],"string_value":"x"', b'[1]}, {"a":1', b""):
        with pytest.raises(InvalidArgument):
            field_from_json(kitchen, "numbers", data, depth=10)
    with pytest.raises(InvalidArgument) as caught:
        field_from_json(kitchen, "numbers", b'[1,"x"]', depth=10)
    assert [each.field for each in caught.value.violations] == ["numbers[1]"]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(InvalidArgument):
        from_json(message("Kitchen"), data, depth=20)


FIELDS = st.sampled_from(
    ["int32_value", "boolValue", "numbers", "counts", "nested", "children", "at", "struct", "value", "any", "red",
     "by_id", "times", "status", "mask", "wrapped_bool", "nope", "@type"]
)  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_read_or_refused_with_a_reason(value: Any) -> None:
    data = json.dumps(value).encode()
    try:
        read = from_json(message("Kitchen"), data, depth=50)
    except InvalidArgument as wrong:
        told = bool(wrong.violations) or "JSON" in wrong.message
    else:
        told = bool(to_json(read))
    assert told
