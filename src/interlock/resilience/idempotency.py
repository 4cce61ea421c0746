"""Idempotency keys: a KEYED call has its effect once, and its repetitions get the first one's answer.

The answer is stored in the call's own transaction, so either both are there or neither; see `interlock.data.unit`.
Header `idempotency-key` (IETF draft-ietf-httpapi-idempotency-key-header), quoted or bare, over any protocol.
"""

import logging
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from protobuf import Message

from interlock.call import Call, Handler, Layer, Middleware, Reply
from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.model import DEFAULT_TIMEOUT, Kind, Operation
from interlock.data.answer import Answer, Claim, Identity
from interlock.data.fingerprint import fingerprint
from interlock.data.unit import Conflict, current_unit, delist, enlist, to_end
from interlock.errors import Code, Error, InvalidArgument, Violation

if TYPE_CHECKING:
    from interlock.data.idempotency import StoredAnswers
    from interlock.data.transaction import Transaction

log = logging.getLogger("interlock")

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"

MARGIN = 15.0
"""Seconds past its deadline for which a call keeps its claim: its commit may still be going on."""

_HEADER = HEADER.encode()
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_ESCAPED = re.compile(r"\\(.)")

LASTING = frozenset((
    Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.PERMISSION_DENIED, Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE, Code.UNIMPLEMENTED,
))  # fmt: skip
"""Codes of errors that are answers: repeating the call would not change them, so they are stored and replayed."""


def idempotency(store: "StoredAnswers | None") -> Layer:
    """Run a KEYED unary call once for each key of its caller, and answer repetitions from `store`.

    InvalidArgument without a key, KeyReused for a key that came with another request, Aborted while the first call
    runs. OK and the handler's own lasting errors are stored; after any other error the key is free again. Replies from
    the store carry `idempotency-replayed: true`. Callers are told apart by their principal, without one by their
    address. Must stand outside `unit_of_work`. Without a store the layer is left out.
    """

    def layer(operation: Operation) -> Middleware | None:
        if store is None or operation.idempotency is not Idempotency.KEYED or operation.kind is not Kind.UNARY:
            return None
        lease = (operation.timeout or DEFAULT_TIMEOUT).total_seconds() + MARGIN

        async def once(call: Call, proceed: Handler) -> Reply:
            identity = Identity(operation=operation.path, caller=_caller(call), key=key_of(call))
            found = await store.claim(identity, fingerprint(call.request), lease)
            if isinstance(found, Answer):
                return _replayed(call, operation, found)
            return await _answered(_First(store, found, call), call, proceed)

        return once

    return layer


class _First:
    """The call that has the claim to answer its key."""

    __slots__ = ("_before", "_call", "claim", "store")

    def __init__(self, store: "StoredAnswers", claim: Claim, call: Call) -> None:
        self.store = store
        self.claim = claim
        self._call = call
        self._before = len(call.head)

    async def keep(self, tx: "Transaction", reply: Reply) -> None:
        """Store the reply in the call's transaction."""
        assert isinstance(reply, Message)  # noqa: S101 - the operation is unary
        await self.store.keep(tx, self.claim, Answer(reply=reply.to_binary(), headers=self._headers()))

    async def keep_error(self, error: Error) -> None:
        """Store a lasting error, once what the handler did is undone; its caller gets it whether this works or not."""
        try:
            await self.store.keep_alone(self.claim, Answer(error=error, headers=self._headers()))
        except Exception:
            log.warning("the answer of %s was not stored", self._call.operation, exc_info=True)

    async def abandon(self) -> None:
        """Free the key; where that fails, it is free once its lease is over."""
        try:
            await self.store.abandon(self.claim)
        except Exception:
            log.warning("an idempotency key of %s stays claimed for a while", self._call.operation, exc_info=True)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        return list(self._call.head[self._before :])


async def _answered(first: _First, call: Call, proceed: Handler) -> Reply:
    token = enlist(first.store.database, first.keep, origin=str(first.claim.identity))
    try:
        return await proceed(call)
    except Error as error:
        lasting = error.code in LASTING and not error.received and not isinstance(error, Conflict)
        await to_end(first.keep_error(error) if lasting and call.cancellation is None else first.abandon())
        raise
    except BaseException:
        await to_end(first.abandon())
        raise
    finally:
        delist(token)


def _replayed(call: Call, operation: Operation, answer: Answer) -> Reply:
    for name, value in answer.headers:
        call.reply_headers.raw.append((name, value))
    call.reply_headers.set(REPLAYED, "true")
    if answer.error is not None:
        raise answer.error
    return operation.reply_type.from_binary(answer.reply)


def _caller(call: Call) -> str:
    if call.principal is not None:
        return f"{call.principal.issuer}|{call.principal.subject}"
    return call.peer.address.rpartition(":")[0]  # without the port, which changes with each connection


def key_of(call: Call) -> str:
    """Return the key that a call came with; InvalidArgument where there is none, or one that cannot be used."""
    given = call.metadata.header(_HEADER)
    if given is None:
        raise _wrong("is required: a value that is new for each operation meant, such as a UUID, and kept for retries")
    text = given.decode("latin-1").strip()
    quoted = _QUOTED.fullmatch(text)
    key = _ESCAPED.sub(r"\1", quoted[1]) if quoted is not None else text
    if not _KEY.fullmatch(key):
        raise _wrong("takes 1 to 255 printable ASCII characters")
    return key


def _wrong(what: str) -> InvalidArgument:
    return InvalidArgument(f"the header {HEADER} {what}", violations=[Violation(field=HEADER, description=what)])


def idempotency_key() -> Layer:
    """Give each SENT call of a KEYED unary operation a key, once for all its attempts; one that the caller set stays.

    A call made while serving a KEYED call, or consuming an event, gets a key derived from that one's and from what it
    asks, so that whoever repeats that one repeats this one too. Other calls get a random UUID.
    """

    def layer(operation: Operation) -> Middleware | None:
        if operation.idempotency is not Idempotency.KEYED or operation.kind is not Kind.UNARY:
            return None
        return _keyed

    return layer


async def _keyed(call: Call, proceed: Handler) -> Reply:
    if call.metadata.header(_HEADER) is None:
        unit = current_unit()
        if unit is not None and unit.origin:
            key = _derived(unit.origin, call.operation, call.request, unit.sent)
        else:
            key = uuid4()
        call.metadata.add(HEADER, str(key))
    return await proceed(call)


def _derived(origin: str, operation: Operation, request: Message[Any], sent: dict[bytes, int]) -> UUID:
    asked = blake2b(operation.path.encode() + b"\0" + fingerprint(request), digest_size=32).digest()
    number = sent[asked] = sent.get(asked, 0) + 1  # the same asked twice in one run is meant twice
    digest = blake2b(origin.encode() + b"\0" + asked + number.to_bytes(4), digest_size=16).digest()
    return UUID(bytes=digest, version=5)  # RFC 9562 §5.5, with a better hash
