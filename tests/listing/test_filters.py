"""Filters and orders: what they mean, what is wrong with those that mean nothing, and that none of them takes long."""

from datetime import UTC, datetime
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.errors import InvalidArgument
from interlock.listing import And, Comparison, Field, Fields, Filter, Kind, Not, Or, Sort, declared
from interlock.listing.filters import LONGEST, parse_filter
from interlock.listing.orders import parse_order
from tests.sample.gen.sample.v1.sample_pb import Thing

COLORS = (("COLOR_UNSPECIFIED", 0), ("COLOR_RED", 1), ("COLOR_LIGHT_RED", 2))


def field(path: str, kind: Kind, names: tuple[tuple[str, int], ...] = (), *, filterable: bool = True) -> Field:
    return Field(path=path, kind=kind, filterable=filterable, sortable=True, names=names)


ALL = [
    field("name", Kind.STRING),
    field("size", Kind.INTEGER),
    field("ratio", Kind.FLOAT),
    field("loud", Kind.BOOL),
    field("color", Kind.ENUM, COLORS),
    field("at", Kind.TIMESTAMP),
    field("total.units", Kind.INTEGER),
    field("sorted_only", Kind.STRING, filterable=False),
]
FIELDS = Fields({each.path: each for each in ALL})


def read(text: str) -> Filter | None:
    return parse_filter(text, FIELDS)


def shown(found: Filter | None) -> str:
    """Write a filter with all its parentheses."""
    match found:
        case Comparison(of, operator, value):
            return f"{of.path}{operator}{value!r}"
        case And(terms):
            return f"({' & '.join(map(shown, terms))})"
        case Or(terms):
            return f"({' | '.join(map(shown, terms))})"
        case Not(term):
            return f"!{shown(term)}"
    return ""


@pytest.mark.parametrize(
    "text,meant",
    [
        ("", ""),
        ("  \n", ""),
        ("name = abc", "name='abc'"),
        ('name="a b"', "name='a b'"),
        (r'name = "say \"hi\" \\ "', r"""name='say "hi" \\ '"""),
        ("name = 'it\"s'", "name='it\"s'"),
        ('name = ""', "name=''"),
        ("name = AND", "name='AND'"),
        ("name = a:b-c.d@e", "name='a:b-c.d@e'"),
        ("size>=-3", "size>=-3"),
        ('size != "7"', "size!=7"),
        ("total.units < 5", "total.units<5"),
        ("ratio > .5", "ratio>0.5"),
        ("ratio <= 1e3", "ratio<=1000.0"),
        ("loud = true", "loud=True"),
        ("color = COLOR_RED", "color=1"),
        ("color = red", "color=1"),
        ("color != LIGHT_RED", "color!=2"),
        ("at > 2026-11-30T12:00:00Z", f"at>{datetime(2026, 11, 30, 12, tzinfo=UTC)!r}"),
        ('at > "2026-11-30T12:00:00+02:00"', f"at>{datetime(2026, 11, 30, 10, tzinfo=UTC)!r}"),
        ("at > 2026-11-30", f"at>{datetime(2026, 11, 30, tzinfo=UTC)!r}"),
        ('at <= "2026-01-01"', f"at<={datetime(2026, 1, 1, tzinfo=UTC)!r}"),
        ("size=1 AND size=2 OR size=3", "(size=1 & (size=2 | size=3))"),
        ("size=1 OR size=2 AND size=3", "((size=1 | size=2) & size=3)"),
        ("(size=1 AND size=2) OR size=3", "((size=1 & size=2) | size=3)"),
        ("name:a", "name:'a'"),
        ('name : "a b"', "name:'a b'"),
        ("name:*", "name:None"),
        ('name:"*"', "name:'*'"),
        ("name:*a", "name:'*a'"),
        ("size:7", "size=7"),
        ("color:red AND loud:true", "(color=1 & loud=True)"),
        ("(total.units:*)", "total.units:None"),
        ("NOT size=1 AND -size=2", "(!size=1 & !size=2)"),
        ("NOT (size=1 OR NOT size=2)", "!(size=1 | !size=2)"),
        ("((((size=1))))", "size=1"),
        ("size=1 AND(size=2)", "(size=1 & size=2)"),
    ],
)
def test_what_a_filter_means(text: str, meant: str) -> None:
    """Filters read as AIP-160 says: OR binds tighter than AND, NOT and - negate, values are of the field's kind."""
    assert shown(read(text)) == meant


@pytest.mark.parametrize(
    "text,said",
    [
        ("nam = a", "at 1: can't filter by 'nam'; did you mean name?"),
        ("size=1 AND nothing = a", "at 12: can't filter by 'nothing'; there are: at, color, loud, name"),
        ("sorted_only = a", "at 1: can't filter by 'sorted_only'"),
        ("name", "at 5: expected one of = !="),
        ("name a", "at 6: expected one of = !="),
        ("name =", "at 7: expected a value"),
        ("name = )", "at 8: expected a value"),
        ('name = "abc', "at 8: a string that does not end"),
        ('name = "abc\\', "at 8: a string that does not end"),
        ("name = 'a\0b'", "at 8: name is compared with a string"),
        ("size:many", "at 6: size is compared with an integer"),
        ("name:", "at 6: expected a value"),
        ("size = many", "at 8: size is compared with an integer"),
        ("size = 9223372036854775808", "at 8: size is compared with an integer"),
        ("size = 1.5", "at 8: size is compared with an integer"),
        ("ratio = nan", "at 9: ratio is compared with a number"),
        ("ratio = 1e999", "at 9: ratio is compared with a number"),
        ("loud = yes", "at 8: loud is compared with true or false"),
        ("loud < true", "at 6: loud takes =, != and : only"),
        ("color = GREEN", "at 9: color is compared with one of COLOR_UNSPECIFIED, COLOR_RED"),
        ("color > RED", "at 7: color takes =, != and : only"),
        ("at = 2026-11-31", "at 6: at is compared with a time"),
        ("at = 20261130", "at 6: at is compared with a time"),
        ("at = 2026-11-30T12:00:00", "at 6: at is compared with a time"),
        ("at = 0001-01-01T00:00:00+10:00", "at 6: at is compared with a time"),
        ("size=1 size=2", "at 8: expected AND, OR or the end"),
        ("size=1 and size=2", "at 8: expected AND, OR or the end"),
        ("size=1 AND", "at 11: expected a field"),
        ("AND size=1", "at 1: expected a field"),
        ("(size=1", "at 8: expected )"),
        ("size=1)", "at 7: expected AND, OR or the end"),
        ("()", "at 2: expected a field"),
        ("NOT", "at 4: expected a field"),
        ("= 1", "at 1: expected a field"),
    ],
)
def test_what_is_wrong_with_a_filter(text: str, said: str) -> None:
    """A filter that can't be read is an error that names `filter`, the character, and what was expected."""
    with pytest.raises(InvalidArgument) as error:
        read(text)
    (violation,) = error.value.violations
    assert violation.field == "filter"
    assert violation.description.startswith(said)


HOSTILE = {
    "long": "a" * (LONGEST + 1),
    "open": "(" * LONGEST,
    "not": "NOT " * (LONGEST // 4),
    "minus": "-" * LONGEST,
    "nested": "(" * 40 + "size=1" + ")" * 40,
    "wide": " OR ".join(["size=1"] * 1_000),
    "quotes": "name = " + '"\\' * 5_000,
    "spaces": "name" + " " * 10_000,
    "digits": "size = " + "9" * 10_000,
    "number": "ratio = " + "9" * 5_000 + "." + "9" * 5_000,
    "path": "a." * 5_000,
    "words": "AND " * 2_500,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_filters_are_errors_soon(name: str) -> None:
    """What is made to take long, or to break the parser, is an error after a moment, and a short one."""
    begun = process_time()
    with pytest.raises(InvalidArgument) as error:
        read(HOSTILE[name])
    assert process_time() - begun < 0.5
    assert len(str(error.value)) < 1_000


@given(st.one_of(st.text(), st.text(alphabet="()=<>!\"'\\- .:ANDORTnamesize1", max_size=200)))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    """Whatever a caller sends, it is a filter or INVALID_ARGUMENT."""
    try:
        found = read(text)
    except InvalidArgument as error:
        found = None
        named = error.violations[0].field
    else:
        named = "filter"
    assert named == "filter"
    assert found is None or shown(found)


_comparisons = st.builds(
    Comparison,
    st.sampled_from([each for each in ALL if each.kind is Kind.INTEGER]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.integers(-9, 9),
)
_filters = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)


def written(found: Filter) -> str:
    match found:
        case Comparison(of, operator, value):
            return f"{of.path} {operator} {value}"
        case And(terms):
            return f"({' AND '.join(map(written, terms))})"
        case Or(terms):
            return f"({' OR '.join(map(written, terms))})"
        case Not(term):
            return f"NOT {written(term)}"


@given(_filters)
def test_a_filter_written_out_reads_the_same(found: Filter) -> None:
    """What is written with all its parentheses is read back as it was."""
    assert read(written(found)) == found


def test_orders() -> None:
    """An order is fields with desc behind those that go down."""
    assert parse_order("", FIELDS) == parse_order("  ", FIELDS) == ()
    assert parse_order("name", FIELDS) == (Sort("name"),)
    assert parse_order(" at  desc , total.units asc,name", FIELDS) == (
        Sort("at", descending=True),
        Sort("total.units"),
        Sort("name"),
    )


@pytest.mark.parametrize(
    "text,said",
    [
        ("nam", "at 1: can't order by 'nam'; did you mean name?"),
        ("name, at down", "at 6: expected a field"),
        ("name,,at", "at 6: expected a field"),
        ("name,", "at 6: expected a field"),
        ("name desc, name", "at 12: name is named twice"),
        ("a" * 2_000, "longer than"),
        ("; DROP TABLE orders", "at 1: expected a field"),
    ],
)
def test_what_is_wrong_with_an_order(text: str, said: str) -> None:
    """An order that can't be read is an error that names `order_by`, the character, and what was expected."""
    with pytest.raises(InvalidArgument) as error:
        parse_order(text, FIELDS)
    (violation,) = error.value.violations
    assert violation.field == "order_by"
    assert violation.description.startswith(said)


def test_the_contract_declares_the_fields() -> None:
    """Only what the contract marks may be filtered and ordered by, each with its kind."""
    fields = declared(Thing.desc())
    assert {path: each.kind for path, each in fields.by_path.items()} == {
        "name": Kind.STRING,
        "size": Kind.INTEGER,
        "created_at": Kind.TIMESTAMP,
    }
    assert fields.filterable("created_at") is None
    assert fields.sortable("created_at") is not None
    assert fields.filterable("etag") is None
