"""The sample service as the subject of a guide, all of its operations offered to the outside."""

from pathlib import Path
from typing import Any

from interlock.contract.effective import effective
from interlock.contract.find import find_image
from interlock.contract.load import load
from interlock.contract.project import read_project
from interlock.guide import Facts, Subject, subject
from interlock.guide.facts import FACTS, facts_of
from interlock.guide.subject import python_package

SAMPLE = Path(__file__).resolve().parents[1] / "sample"
SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
OUTSIDE = {"sample.v1.SampleService": {"exposure": "EXTERNAL"}}

_VALUES: dict[str, Any] = {
    "text": "given",
    "list": ["given"],
    "table": {"given": "given"},
    "rows": [{"version": "1", "date": "2026-01-31", "changes": "given"}],
}


def all_facts(**changed: Any) -> Facts:
    """Facts with every key filled; `changed` replaces some (`document_name` is `document.name`)."""
    given = {each.key: _VALUES[each.kind] for each in FACTS}
    given |= {"document.name": "Sample", "variables.prefix": "", "examples.variables": {}, "document.types": []}
    return Facts(given | {name.replace("_", ".", 1): value for name, value in changed.items()})


def no_facts() -> Facts:
    """Facts of an empty file."""
    return facts_of({})


def sample_subject(facts: Facts | None = None, overrides: Any = None) -> Subject:
    """The sample service, its contract loaded afresh."""
    contract = effective(load(find_image(".", SAMPLE)), OUTSIDE if overrides is None else overrides)
    return subject(contract, facts or all_facts(), python_package(read_project(SAMPLE)))


def shop_subject(facts: Facts | None = None) -> Subject:
    """The shop, its contract loaded afresh."""
    contract = load(find_image(".", SHOP))
    return subject(contract, facts or all_facts(), python_package(read_project(SHOP)))
