"""The contract: `.proto` files compiled to an image, read as frozen data, checked, and turned into typed code."""

from interlock.contract.mistakes import ContractError, Mistake
from interlock.contract.model import Contract, Event, Operation, Service

__all__ = ["Contract", "ContractError", "Event", "Mistake", "Operation", "Service"]
