"""GRPC002: names have the field's usual casing, and everything says what it is for; judged by `buf lint`."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from interlock.contract.compile import find_tool
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.standards.declarations import Declarations
from interlock.standards.rule import ContractRule

# Versions are GRPC001's, request and reply messages GRPC003's: that rule lets a reply be the resource itself.
_EXCEPT = (
    "PACKAGE_VERSION_SUFFIX",
    "RPC_REQUEST_RESPONSE_UNIQUE",
    "RPC_REQUEST_STANDARD_NAME",
    "RPC_RESPONSE_STANDARD_NAME",
)
# A comment without a reason silences nothing, so buf's own kind is not heard.
_CONFIG = json.dumps(
    {
        "version": "v2",
        "lint": {"use": ["STANDARD", "COMMENTS"], "except": _EXCEPT, "disallow_comment_ignores": True},
    }
)
_FINDINGS = 100
"""buf's exit code where it found something."""


def _check(contract: Declarations) -> Iterator[Mistake]:
    if not contract.files:
        return
    with tempfile.TemporaryDirectory(prefix="interlock-") as name:
        image = Path(name, "image.binpb")
        image.write_bytes(contract.image)
        only = [argument for file in contract.files for argument in ("--path", file.name)]
        command = [str(find_tool("buf")), "lint", str(image), "--config", _CONFIG, "--error-format", "json", *only]
        result = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False)  # noqa: S603 - our tool
    if result.returncode not in (0, _FINDINGS):
        raise RuntimeError(f"buf lint: {result.stderr.strip()}")
    for line in result.stdout.splitlines():
        yield _mistake(json.loads(line))


def _mistake(found: dict[str, Any]) -> Mistake:
    kind = found["type"]
    message = found["message"].rstrip(".")
    remedy = "say above it what it is for" if kind.startswith("COMMENT_") else "change it as the message says"
    return Mistake(Source(found["path"], found.get("start_line", 0)), f"{message} (buf: {kind})", remedy)


GRPC002 = ContractRule(
    id="GRPC002",
    title="Names have the usual casing, and everything says in a comment what it is for.",
    why=(
        "Code in every language is generated from these names, and the documentation from these comments.\n"
        "The rules are those of `buf lint`, categories STANDARD and COMMENTS; each finding names buf's own rule."
    ),
    wrong="""\
message order {
  string orderId = 1;
}
""",
    right="""\
// An order.
message Order {
  // Given by the service.
  string order_id = 1;
}
""",
    check=_check,
)
