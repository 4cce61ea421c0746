"""The REST door fuzzed by schemathesis, after the OpenAPI document that is served.

`python -m tests.contract.fuzzing --examples 500 [--seed N] [sample|shop]` is the long run; the suite has a short one.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from interlock.data import Database
from interlock.security.access import roles_from
from interlock.server import serving
from interlock.settings import Settings
from interlock.testing import Keyring, Surroundings, platform_running
from shop.platform import platform
from tests.sample.handlers import make

SAMPLE, SHOP = "sample", "shop"
LEFT_OUT = {
    SAMPLE: ("SampleService_Fail", "SampleService_Slow", "SampleService_Blob", "SampleService_CountUp"),
    SHOP: ("OrderService_WatchOrderStatus",),
}
"""Operations whose work is to fail, to be slow, to be huge, or never to end."""

ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "429"]
STATE = ["412", "422"]
"""Statuses that depend on what was there before: another state (etag), another request (idempotency key)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something served: where, and how to ask as somebody who may do everything."""

    url: str
    token: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a run said, and how it ended."""

    code: int
    report: str


@asynccontextmanager
async def sample_served(directory: Path) -> AsyncIterator[Target]:
    """Serve the sample app with stored answers, so that it demands idempotency keys."""
    keys = Keyring(directory / "keys")
    settings = Settings(keys=directory / "keys", broker=f"embedded:{directory}/broker.db")
    database = Database(f"sqlite:///{directory}/sample.db")
    app = make(settings=settings, database=database, roles=roles_from({"operator": ["*"]}))
    async with serving(app) as address:
        yield Target(url=address.url, token=keys.token("operator"), left_out=LEFT_OUT[SAMPLE])


@asynccontextmanager
async def shop_served(directory: Path) -> AsyncIterator[Target]:
    """Serve the whole shop; what is fuzzed is its gateway."""
    surroundings = Surroundings(directory=directory, keys=Keyring(directory / "keys"))
    async with platform_running(platform, surroundings, log_level="error") as served:
        yield Target(url=served.running.gateway.url, token=surroundings.keys.token("operator"), left_out=LEFT_OUT[SHOP])


TARGETS = {SAMPLE: sample_served, SHOP: shop_served}


async def fuzz(target: Target, directory: Path, *, examples: int, seed: int, seconds: float) -> Verdict:
    """Run schemathesis with all checks against what is served; code 0 says that it found nothing."""
    async with httpx2.AsyncClient() as client:
        document = (await client.get(f"{target.url}/openapi.json")).json()
    config = directory / "schemathesis.toml"
    config.write_text(configuration(document))
    arguments = [
        "--config-file", str(config), "run", f"{target.url}/openapi.json",
        "--checks", "all", "--max-examples", str(examples), "--seed", str(seed),
        "--header", f"Authorization: Bearer {target.token}", "--request-timeout", "20",
        "--generation-database", "none", "--continue-on-failure", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    for each in target.left_out:
        arguments += ["--exclude-operation-id", each]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=directory,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        return Verdict(code=-1, report=f"not done after {seconds:g} s")
    return Verdict(code=process.returncode or 0, report=out.decode(errors="replace"))


def configuration(document: Any) -> str:
    """Return schemathesis' settings: for each operation, what else may become of a request that fits its schema."""
    lines = ["[checks]", f"positive_data_acceptance.expected-statuses = {json.dumps(ACCEPTED)}"]
    for operation in operations(document):
        statuses = [*ACCEPTED, *STATE, *(["400"] if any(unsaid(operation, document)) else [])]
        lines += [
            "[[operations]]",
            f"include-operation-id = {json.dumps(operation['operationId'])}",
            f"checks.positive_data_acceptance.expected-statuses = {json.dumps(statuses)}",
        ]
    return "\n".join(lines) + "\n"


def operations(document: Any) -> Iterator[Any]:
    """Yield the operations of a document."""
    for item in document["paths"].values():
        yield from item.values()


def unsaid(operation: Any, document: Any) -> Iterator[str]:
    """Yield why a request that fits its schema may be wrong: what the document says in words and extensions only."""
    if operation.get("x-interlock-reasons"):
        yield "the state of the system may forbid it (FAILED_PRECONDITION is a 400)"
    if operation.get("x-interlock-excluding"):
        yield "some query parameters exclude each other"
    if names := {"page_token", "filter", "order_by", "update_mask"} & {*_parameters(operation)}:
        yield f"{', '.join(sorted(names))}: only the service reads them"
    if "If-Match" in _parameters(operation) and operation.get("requestBody"):
        yield "the etag of the body is another than the header's"
    if any("x-interlock-rules" in json.dumps(each) for each in _reached(operation.get("requestBody"), document)):
        yield "a rule in CEL"


def _parameters(operation: Any) -> Iterator[str]:
    return (each["name"] for each in operation.get("parameters", ()))


def _reached(body: Any, document: Any) -> Iterator[Any]:
    seen: set[str] = set()
    waiting = [body or {}]
    while waiting:
        each = waiting.pop()
        yield each
        for piece in json.dumps(each).split('"#/components/schemas/')[1:]:
            name = piece.partition('"')[0]
            if name not in seen:
                seen.add(name)
                waiting.append(document["components"]["schemas"][name])


async def main() -> int:
    """Run for as long as it takes; print the reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", choices=list(TARGETS), help="all of them where none is named")
    parser.add_argument("--examples", type=int, default=300, help="cases of each operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    worst = 0
    for name in [given.target] if given.target else TARGETS:
        with tempfile.TemporaryDirectory() as directory:
            async with TARGETS[name](Path(directory)) as target:
                verdict = await fuzz(target, Path(directory), examples=given.examples, seed=given.seed, seconds=7200)
        sys.stdout.write(verdict.report)
        worst = max(worst, abs(verdict.code))
    return worst


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
