"""What generated code says of a service: its operations with their classes, and where its image lies."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from protobuf import Message

from interlock.contract.model import Contract, Kind, Operation

Q = TypeVar("Q", bound="Message[Any]")
R = TypeVar("R", bound="Message[Any]")


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Q, R]):
    """One operation as generated code names it (`GET_ORDER`): its RPC path, kind and classes."""

    path: str
    kind: Kind
    request_type: type[Q]
    reply_type: type[R]

    @property
    def name(self) -> str:
        """The RPC's name (`GetOrder`)."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, eq=False)
class Image:
    """The compiled contract beside the generated code: a FileDescriptorSet with source info."""

    path: Path

    @cached_property
    def contract(self) -> Contract:
        """The contract, read once; ContractError lists its mistakes, FileNotFoundError tells to generate."""
        from interlock.contract.load import load  # noqa: PLC0415 - generated code is imported without loading an image

        if not self.path.exists():
            raise FileNotFoundError(f"{self.path} is missing: run `interlock generate`")
        return load(self.path.read_bytes())


@dataclass(frozen=True, eq=False)
class ServiceStub:
    """One service as generated code names it: its full name, its image, its operations by Python name."""

    name: str
    image: Image
    rpcs: Mapping[str, "Rpc[Any, Any]"]

    def operation(self, rpc: "Rpc[Any, Any]", contract: Contract | None = None) -> Operation:
        """Return the operation behind `rpc` with the generated classes; from `contract` where settings were applied."""
        operations = (contract or self.image.contract).operations
        if rpc.path not in operations:
            raise LookupError(
                f"{rpc.path} is not in {self.image.path}: generated code and image differ, generate again"
            )
        request_type, reply_type = rpc.request_type, rpc.reply_type
        return replace(operations[rpc.path], request_type=request_type, reply_type=reply_type)
