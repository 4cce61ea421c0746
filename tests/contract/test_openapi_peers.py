"""The OpenAPI documents before those who know better: a validator, a linter, and a fuzzer that believes them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from interlock.contract.compile import compile_image
from interlock.contract.load import load
from interlock.contract.openapi import Credentials, openapi_json
from tests.contract.fuzzing import TARGETS, fuzz
from tests.contract.redocly import lint
from tests.npm import NotInstalled
from tests.protocols.orders import contract

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {"sample": 8, "shop": 3}
"""Cases of each operation and phase in the suite; `python -m tests.contract.fuzzing` tries as many as one likes."""


@cache
def shop() -> bytes:
    return openapi_json(load(compile_image([ROOT / "examples" / "shop" / "contracts"])))


@cache
def sample() -> bytes:
    return openapi_json(load(compile_image([ROOT / "tests" / "sample" / "contracts"])))


@cache
def every_credential() -> bytes:
    taken = Credentials(api_keys=True, token_url="/oauth/token", certificates=True)
    return openapi_json(contract(), credentials=taken)


DOCUMENTS = [shop, sample, every_credential]


@pytest.mark.parametrize("made", DOCUMENTS, ids=lambda made: made.__name__)
def test_the_validator_finds_nothing(made: Callable[[], bytes]) -> None:
    """The documents are OpenAPI 3.1."""
    assert list(OpenAPIV31SpecValidator(json.loads(made())).iter_errors()) == []


@pytest.mark.parametrize("made", DOCUMENTS, ids=lambda made: made.__name__)
async def test_the_linter_finds_nothing(made: Callable[[], bytes], tmp_path: Path) -> None:
    """Redocly's recommended rules are content, but for those that its configuration sets aside with a reason."""
    document = tmp_path / "openapi.json"
    document.write_bytes(made())
    try:
        assert await lint(document) == ""
    except NotInstalled as reason:
        pytest.skip(f"NOT LINTED: {reason}")


async def test_the_linter_is_heard(tmp_path: Path) -> None:
    """A document that is wrong is found out, so that silence means something."""
    wrong: Any = json.loads(sample())
    wrong["paths"]["/v1/things"]["get"].pop("summary")
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(wrong))
    try:
        assert "operation-summary" in await lint(document)
    except NotInstalled as reason:
        pytest.skip(f"NOT LINTED: {reason}")


@pytest.mark.parametrize("name", TARGETS)
async def test_the_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    """Requests that fit the document are accepted, others refused, replies fit it: all checks of schemathesis."""
    async with TARGETS[name](tmp_path) as target:
        verdict = await fuzz(target, tmp_path, examples=EXAMPLES[name], seed=20261122, seconds=110)
    assert verdict.code == 0, verdict.report
    assert "passed" in verdict.report
