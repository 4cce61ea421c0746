"""GRPC001: the package carries the version of the API."""

import re
from collections.abc import Iterator

from interlock.contract.mistakes import Mistake
from interlock.contract.sources import Sources
from interlock.standards.declarations import Declarations
from interlock.standards.rule import ContractRule

_VERSIONED = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[1-9][0-9]*((alpha|beta)[1-9][0-9]*)?\Z")


def _check(contract: Declarations) -> Iterator[Mistake]:
    for file in contract.files:
        package = file.proto.package
        if _VERSIONED.match(package):
            continue
        sources = Sources(file.proto)
        if not package:
            first = sources.source((4, 0)) if file.messages else sources.source((6, 0))
            message, remedy = "the file has no package", "give it one with a version: `package api.order.v1;`"
            yield Mistake(first, message, remedy)
        else:
            message = f"the package {package!r} carries no version"
            yield Mistake(sources.source((2,)), message, f"end it with one: `package {package.lower()}.v1;`")


GRPC001 = ContractRule(
    id="GRPC001",
    title="The package carries the version of the API.",
    why="A caller sees from the name what it speaks; version 2 can stand beside version 1 until the last caller moved.",
    wrong="""\
package api.order;

// An order.
message Order {
  // Given by the service.
  string id = 1;
}
""",
    right="""\
package api.order.v1;

// An order.
message Order {
  // Given by the service.
  string id = 1;
}
""",
    check=_check,
)
