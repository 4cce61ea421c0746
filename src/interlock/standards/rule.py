"""What a rule is: a page (what, why, wrong, right) and the function that checks it."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interlock.contract.mistakes import Mistake

if TYPE_CHECKING:
    from interlock.standards.declarations import Declarations
    from interlock.standards.live.target import Observed, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A rule in words: `title` is what it asks for, `wrong` and `right` are examples, `id` is a clause's."""

    id: str
    title: str
    why: str
    wrong: str
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractRule(Page):
    """A rule that `.proto` files can break; `check` yields the breaches."""

    check: "Callable[[Declarations], Iterable[Mistake]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRule(Page):
    """A rule that a running service can break; `probe` sends requests and returns what it saw."""

    probe: "Callable[[Target], Awaitable[Observed]]"


def explain(page: Page) -> str:
    """Return the page of a rule as plain text."""
    parts = [
        f"{page.id}: {page.title}",
        page.why,
        f"Wrong:\n\n{_indented(page.wrong)}",
        f"Right:\n\n{_indented(page.right)}",
    ]
    if isinstance(page, ContractRule):
        how = f"// interlock:ignore {page.id} why this one is different"
        parts.append(
            f"To silence it, write the reason into a comment of the element:\n\n{_indented(how)}\n\n"
            "It holds for all of the element (a service with its methods); above `syntax` or `package`, for the file."
        )
    else:
        parts.append("It cannot be silenced: a running service keeps it or does not.")
    return "\n\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.strip("\n").splitlines())
