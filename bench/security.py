"""What security costs one call, in a loop without sockets: `python -m bench.security`.

The figures are CPU microseconds of this process on top of a chain that has no layer; the least of several rounds
counts, because what else runs on the machine only ever adds.
"""

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interlock.call import Call, Handler, Layer, Reply, compose, current_call
from interlock.metadata import Metadata
from interlock.security.access import access, roles_from
from interlock.security.account_file import AccountFile
from interlock.security.algorithms import ALGORITHMS
from interlock.security.api_keys import ApiKeys, create_account, create_key
from interlock.security.authenticate import authenticate
from interlock.security.credentials import ServiceToken, credentials
from interlock.security.keys import JWKS, new_keys
from interlock.security.tokens import Issuer, TokenRules
from interlock.security.verifier import Verifier
from shop.gen.api.order.v1.order_rpc import GET_ORDER, ORDER_SERVICE

CALLS, ROUNDS = 20_000, 7
OPERATION = ORDER_SERVICE.operation(GET_ORDER)
REPLY: Any = GET_ORDER.reply_type()
ROLES = roles_from({"reader": ["orders:read"]})
HEAD = (
    (b"user-agent", b"grpc-python/1.85"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"grpc-timeout", b"1S"),
    (b"x-request-id", b"01900000-0000-7000-8000-000000000000"),
)
Case = tuple[Handler, tuple[tuple[bytes, bytes], ...]]


def chain(*layers: Layer) -> Handler:
    """Compose the layers around a handler that does nothing."""

    async def handle(_call: Call) -> Reply:
        return REPLY  # type: ignore[no-any-return]

    return compose(layers, OPERATION, handle)


async def measured(handler: Handler, head: tuple[tuple[bytes, bytes], ...]) -> float:
    """Return CPU seconds of one call: made, handled, ended."""
    begun = time.process_time()
    for _ in range(CALLS):
        call = Call(OPERATION, Metadata.from_raw(list(head)), protocol="grpc")
        await handler(call)
        call.end()
    return (time.process_time() - begun) / CALLS


async def cases(directory: Path) -> dict[str, Case]:
    """Return what is measured."""
    keys = new_keys(directory / "keys")
    shown = f"Bearer {Issuer(keys=keys).mint('bench', ['reader'])}".encode()
    verifier = Verifier.at(directory / "keys" / JWKS)
    store = AccountFile(directory / "accounts.json")
    await create_account(store, "bench", ["reader"])
    _, key = await create_key(store, "bench")
    api_keys = ApiKeys(store, fresh=3600, oldest=3600)
    with_token = (*HEAD, (b"authorization", shown))
    with_key = (*HEAD, (b"x-api-key", key.encode()))
    own = ServiceToken("bench", ["reader"], keys=directory / "keys")
    return {
        "authenticate, a token that is known": (chain(authenticate(verifier)), with_token),
        "authenticate, a key that is known": (chain(authenticate(verifier, None, api_keys)), with_key),
        "authenticate and access": (chain(authenticate(verifier), access(ROLES)), with_token),
        "credentials, a client's own token": (chain(credentials(own)), HEAD),
    }


def verifications() -> dict[str, float]:
    """Return CPU seconds of what is not remembered: a signature of each family, checked with all claims."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for algorithm in ALGORITHMS.values():
            keys = new_keys(Path(name) / algorithm.name, algorithm=algorithm)
            shown = f"Bearer {Issuer(keys=keys).mint('bench', ['reader'])}".encode()
            verifier = Verifier.at(
                Path(name) / algorithm.name / JWKS,
                TokenRules(algorithm=algorithm),
            )
            found[algorithm.name] = asyncio.run(_verified(verifier, shown))
    return found


async def _verified(verifier: Verifier, shown: bytes) -> float:
    await verifier.verify(shown)
    rounds = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(200):
            await verifier.verify(shown)
        rounds.append((time.process_time() - begun) / 200)
    return min(rounds)


async def look_up(directory: Path) -> float:
    """Return CPU seconds of `Verifier.known`: the goal is 3 µs."""
    keys = new_keys(directory / "looked-up")
    shown = f"Bearer {Issuer(keys=keys).mint('bench', ['reader'])}".encode()
    verifier = Verifier.at(directory / "looked-up" / JWKS)
    await verifier.verify(shown)
    headers = [bytes(bytearray(shown)) for _ in range(1000)]  # as they come: no object that was seen before
    rounds = []
    for _ in range(ROUNDS):
        headers = [bytes(bytearray(each)) for each in headers]
        begun = time.process_time()
        for each in headers:
            verifier.known(each)
        rounds.append((time.process_time() - begun) / len(headers))
    return min(rounds)


async def run(tell: Callable[[str], object]) -> None:
    """Measure every case against the bare chain, in turn, round after round."""
    current_call.set(None)
    nothing = chain()
    with tempfile.TemporaryDirectory() as name:
        named = await cases(Path(name))
        found: dict[str, list[float]] = {each: [] for each in named}
        bare: list[float] = []
        for _ in range(ROUNDS):
            bare.append(await measured(nothing, HEAD))
            for each, (handler, head) in named.items():
                found[each].append(await measured(handler, head))
        looked_up = await look_up(Path(name))
    tell(f"{'bare chain':40} {min(bare) * 1e6:6.2f} µs")
    tell(f"{'look-up of a verified token alone':40} {looked_up * 1e6:6.2f} µs")
    for each, times in found.items():
        tell(f"{each:40} {(min(times) - min(bare)) * 1e6:+6.2f} µs")


if __name__ == "__main__":
    for family, seconds in verifications().items():
        print(f"{f'verify anew, {family}':40} {seconds * 1e6:6.2f} µs")
    asyncio.run(run(print))
