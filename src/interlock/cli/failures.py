"""Errors that are told without a traceback, and the exit code of each."""

from interlock.contract.find import NoContract
from interlock.contract.generate import NotGenerated
from interlock.contract.mistakes import ContractError
from interlock.contract.project import ProjectError
from interlock.contract.scaffold import CannotMake
from interlock.events.broker import BrokerUnavailable
from interlock.events.dead_letters import CannotReplay, UnknownLetter

EXIT_CODES: dict[type[Exception], int] = {
    ContractError: 1,
    NotGenerated: 1,
    ProjectError: 2,
    NoContract: 2,
    CannotMake: 2,
    BrokerUnavailable: 1,
    UnknownLetter: 1,
    CannotReplay: 1,
}


def exit_code(error: Exception) -> int | None:
    """Return the exit code for `error`; None where only a traceback helps."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), None)
