"""A guide's content: facts, endpoints, determinism."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlock.guide import FactsError, build, read_facts
from interlock.guide.facts import FACTS, facts_of
from tests.guide.subjects import SHOP, all_facts, no_facts, sample_subject, shop_subject

PROGRAM = "from tests.guide.subjects import *\nfrom interlock.guide import build\nprint(build(shop_subject()).text)"


def test_the_same_subject_gives_the_same_text() -> None:
    """Two processes with other seeds of hashing write the same bytes."""
    root = Path(__file__).resolve().parents[2]
    texts = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{SHOP}"}
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True, timeout=60
        )
        texts.append(ran.stdout)
    assert texts[0] == texts[1]
    assert len(texts[0]) > 20_000


def test_missing_facts_are_named_and_marked() -> None:
    """Without facts, each that must be filled is told, and marked where it belongs."""
    built = build(sample_subject(no_facts()))
    wanted = [each.key for each in FACTS if each.default is None]
    assert [each.key for each in built.missing] == wanted
    assert not [key for key in wanted if f"TO FILL `{key}`" not in built.text]


def test_filled_facts_leave_no_mark() -> None:
    """With all facts nothing is missing and nothing is marked."""
    built = build(sample_subject())
    assert built.missing == ()
    assert "TO FILL" not in built.text


def test_the_shops_facts_are_complete() -> None:
    """The shop's own file fills all that must be filled."""
    assert read_facts(SHOP / "guide.toml").missing == ()


def test_an_empty_fact_is_missing() -> None:
    """A key with nothing in it counts as one to fill."""
    assert "owner.team" in {each.key for each in facts_of({"owner": {"team": ""}}).missing}


@pytest.mark.parametrize(
    "tree,told",
    [
        ({"owner": {"tema": "x"}}, "owner.tema is no fact of a guide; did you mean 'owner.team'?"),
        ({"owner": {"team": 3}}, "owner.team should be a text"),
        ({"document": {"use_cases": ["x"]}}, "document.use_cases should be a table of texts"),
        ({"access": {"other": "x"}}, "access.other should be a list of texts"),
        ({"changelog": [{"when": "x"}]}, "changelog should be a list of tables"),
    ],
)
def test_a_wrong_fact_is_refused(tree: dict[str, object], told: str) -> None:
    """An unknown key or a wrong form is a mistake that names the key."""
    with pytest.raises(FactsError, match=r"guide\.toml") as refused:
        facts_of(tree)
    assert told in str(refused.value)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    """The mistake names the file."""
    (tmp_path / "guide.toml").write_text("owner =")
    with pytest.raises(FactsError, match=r"guide\.toml"):
        read_facts(tmp_path / "guide.toml")


def test_an_endpoint_tells_all_about_itself() -> None:
    """Purpose, request, response and status codes are those of the contract."""
    text = build(sample_subject()).text
    section = text.partition("#### POST /v1/things\n")[2].partition("\n#### ")[0]
    for expected in (
        "**Purpose**: Makes a thing; repeatable with an idempotency key.",
        "POST /v1/things\nIdempotency-Key: {unique for each intent}\nContent-Type: application/json\n\n",
        '{\n  "name": "name",\n  "size": 1\n}',
        '"data": {\n    "thing_id": "thing_id",',
        "Permission: anybody; timeout: 30 s; repeatable with an `Idempotency-Key`.",
        "| `Idempotency-Key` | header |",
        "- `201`: Created.",
        "- `429`: Too many requests.",
    ):
        assert expected in section


def test_internal_operations_stay_inside() -> None:
    """What is not EXTERNAL has no place in a guide."""
    text = build(shop_subject()).text
    assert "/api.order.v1.OrderService/CreateOrder" in text
    assert "UpdateOrderStatus" not in text


def test_settings_reach_the_guide() -> None:
    """A limit set by an operator is the one that the guide names."""
    overrides = {"sample.v1.SampleService": {"exposure": "EXTERNAL", "rate_limit": "7/30s"}}
    assert "| `GET /v1/slow` | 7 | 30 s |" in build(sample_subject(overrides=overrides)).text


def test_bars_in_facts_do_not_break_tables() -> None:
    """A bar or a line break in a fact stays in its cell."""
    rows = [{"version": "1", "date": "d", "changes": "a | b\nc", "author": "x"}]
    text = build(sample_subject(all_facts(changelog=rows))).text
    assert "| d | 1 | a \\| b c | x |" in text
