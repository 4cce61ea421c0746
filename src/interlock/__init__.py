"""Interlock makes service integration standards executable: one contract, every protocol, proved.

The names below are the public API; each is imported when it is first used, so that `import interlock` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interlock.app import App as App
    from interlock.blocking import blocking as blocking
    from interlock.call import Call as Call
    from interlock.call import Cancellation as Cancellation
    from interlock.call import Direction as Direction
    from interlock.call import Handler as Handler
    from interlock.call import Layer as Layer
    from interlock.call import Middleware as Middleware
    from interlock.call import Outcome as Outcome
    from interlock.call import Peer as Peer
    from interlock.call import Principal as Principal
    from interlock.call import Reply as Reply
    from interlock.call import current_call as current_call
    from interlock.call import detached as detached
    from interlock.call import in_thread as in_thread
    from interlock.client import Client as Client
    from interlock.client import Paged as Paged
    from interlock.client import ReplyStream as ReplyStream
    from interlock.client import Result as Result
    from interlock.contract.mistakes import ContractError as ContractError
    from interlock.contract.model import Contract as Contract
    from interlock.contract.model import Operation as Operation
    from interlock.contract.stub import Rpc as Rpc
    from interlock.data.database import Database as Database
    from interlock.data.transaction import Transaction as Transaction
    from interlock.deadline import Deadline as Deadline
    from interlock.defaults import after as after
    from interlock.defaults import before as before
    from interlock.errors import Aborted as Aborted
    from interlock.errors import AlreadyExists as AlreadyExists
    from interlock.errors import Cancelled as Cancelled
    from interlock.errors import Code as Code
    from interlock.errors import DataLoss as DataLoss
    from interlock.errors import DeadlineExceeded as DeadlineExceeded
    from interlock.errors import Error as Error
    from interlock.errors import EtagMismatch as EtagMismatch
    from interlock.errors import FailedPrecondition as FailedPrecondition
    from interlock.errors import Internal as Internal
    from interlock.errors import InvalidArgument as InvalidArgument
    from interlock.errors import KeyReused as KeyReused
    from interlock.errors import NotFound as NotFound
    from interlock.errors import OutOfRange as OutOfRange
    from interlock.errors import PermissionDenied as PermissionDenied
    from interlock.errors import PreconditionRequired as PreconditionRequired
    from interlock.errors import ResourceExhausted as ResourceExhausted
    from interlock.errors import TooLarge as TooLarge
    from interlock.errors import Unauthenticated as Unauthenticated
    from interlock.errors import Unavailable as Unavailable
    from interlock.errors import Unimplemented as Unimplemented
    from interlock.errors import Unknown as Unknown
    from interlock.errors import Violation as Violation
    from interlock.masks import apply_mask as apply_mask
    from interlock.metadata import Metadata as Metadata
    from interlock.outbound import External as External
    from interlock.outbound import HttpClient as HttpClient
    from interlock.protocols.client_tls import Tls as Tls
    from interlock.protocols.connect_client import ConnectOptions as ConnectOptions
    from interlock.protocols.deprecation_notice import DeprecatedOperation as DeprecatedOperation
    from interlock.resilience.retry import RetryPolicy as RetryPolicy
    from interlock.security.access import Roles as Roles
    from interlock.security.access import authorize as authorize
    from interlock.security.access import load_roles as load_roles
    from interlock.security.credentials import BearerToken as BearerToken
    from interlock.security.credentials import ServiceToken as ServiceToken
    from interlock.settings import Settings as Settings
    from interlock.url import Url as Url

_HOMES = {
    "app": ("App",),
    "blocking": ("blocking",),
    "call": (
        "Call", "Cancellation", "Direction", "Handler", "Layer", "Middleware", "Outcome", "Peer", "Principal", "Reply",
        "current_call", "detached", "in_thread",
    ),
    "client": ("Client", "Paged", "ReplyStream", "Result"),
    "contract.mistakes": ("ContractError",),
    "contract.model": ("Contract", "Operation"),
    "contract.stub": ("Rpc",),
    "data.database": ("Database",),
    "data.transaction": ("Transaction",),
    "deadline": ("Deadline",),
    "defaults": ("after", "before"),
    "errors": (
        "Aborted", "AlreadyExists", "Cancelled", "Code", "DataLoss", "DeadlineExceeded", "Error", "EtagMismatch",
        "FailedPrecondition", "Internal", "InvalidArgument", "KeyReused", "NotFound", "OutOfRange", "PermissionDenied",
        "PreconditionRequired", "ResourceExhausted", "TooLarge", "Unauthenticated", "Unavailable", "Unimplemented",
        "Unknown", "Violation",
    ),
    "masks": ("apply_mask",),
    "metadata": ("Metadata",),
    "outbound": ("External", "HttpClient"),
    "protocols.client_tls": ("Tls",),
    "protocols.connect_client": ("ConnectOptions",),
    "protocols.deprecation_notice": ("DeprecatedOperation",),
    "resilience.retry": ("RetryPolicy",),
    "security.access": ("Roles", "authorize", "load_roles"),
    "security.credentials": ("BearerToken", "ServiceToken"),
    "settings": ("Settings",),
    "url": ("Url",),
}  # fmt: skip
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted([*_HOME, "__version__"])  # noqa: PLE0605 - made from the one table above


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'interlock' has no attribute {name!r}")
    value = getattr(import_module(f"interlock.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
