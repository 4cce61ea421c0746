"""Errors that are told without a traceback, and the exit code of each."""

from interlock.contract.find import NoContract
from interlock.contract.generate import NotGenerated
from interlock.contract.mistakes import ContractError
from interlock.contract.project import ProjectError
from interlock.contract.scaffold import CannotMake

EXIT_CODES: dict[type[Exception], int] = {
    ContractError: 1,
    NotGenerated: 1,
    ProjectError: 2,
    NoContract: 2,
    CannotMake: 2,
}


def exit_code(error: Exception) -> int | None:
    """Return the exit code for `error`; None where only a traceback helps."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), None)
