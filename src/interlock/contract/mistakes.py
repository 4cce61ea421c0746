"""Mistakes in a contract: where, what, and what to do; all of them are told at once."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from interlock.contract.model import Source


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong, and the remedy in plain words."""

    source: Source
    message: str
    remedy: str

    def __str__(self) -> str:
        text = f"{self.source}: {self.message}"
        return f"{text} — {self.remedy}" if self.remedy else text


class ContractError(Exception):
    """The contract cannot be used; `mistakes` says why, in the order of the files."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))

    def below(self, directory: str) -> "ContractError":
        """Return the same error with its files named from where `directory` stands (`contracts/…`)."""
        return ContractError(
            replace(each, source=Source(f"{directory}/{each.source.file}", each.source.line)) for each in self.mistakes
        )
