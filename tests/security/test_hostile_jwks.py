"""A key set's endpoint that hangs, dies, lies or floods while calls go on: who has a known key is served."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
import pytest

from interlock.security.access import roles_from
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import KeySet, jwks_document
from interlock.security.tokens import Issuer
from interlock.security.verifier import Verifier
from interlock.server import serving
from tests.sample.handlers import make
from tests.security.forging import Clock, forge, header
from tests.security.load import whispering
from tests.waiting import until

ROLES = roles_from({"whisperer": ["sample:whisper"]})


class Endpoint:
    """Serves bytes as HTTP in the manner of `mode`; counts the requests, and those that it sent elsewhere."""

    def __init__(self, document: bytes) -> None:
        self.document = document
        self.mode = "sound"
        self.asked = self.elsewhere = self.sent = 0
        self.port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    def become(self, mode: str) -> None:
        """Behave so from now on, and drop who still waits."""
        self.mode = mode
        for each in tuple(self._connections):
            each.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self._connections.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /elsewhere"):
                self.elsewhere += 1
                return
            self.asked += 1
            await self._answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        if self.mode in ("down", "over"):
            return
        if self.mode == "hanging":
            await asyncio.Event().wait()
        if self.mode == "slow":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        if self.mode == "flood":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
            for _ in range(1600):
                writer.write(b" " * 65_536)
                await writer.drain()
                self.sent += 65_536
        status, kind, body = {
            "sound": (b"200 OK", b"application/json", self.document),
            "HTML": (b"200 OK", b"text/html", b"<!doctype html><p>Log in"),
            "nothing": (b"200 OK", b"application/json", b'{"keys": []}'),
            "no set": (b"200 OK", b"application/json", b"[" * 100_000),
            "private": (b"200 OK", b"application/json", b'{"keys": [{"kty": "oct", "kid": "a", "k": "AAAA"}]}'),
            "broken": (b"500 Oh", b"text/plain", b"boom"),
            "moved": (b"302 Found", b"text/plain", b""),
        }[self.mode]
        there = f"location: http://localhost:{self.port}/elsewhere\r\n".encode()
        writer.write(
            b"HTTP/1.1 %s\r\ncontent-type: %s\r\n%scontent-length: %d\r\n\r\n%s"
            % (status, kind, there, len(body), body)
        )
        await writer.drain()


@asynccontextmanager
async def endpoint(document: bytes) -> AsyncIterator[tuple[Endpoint, str]]:
    """Run one, and give its URL."""
    found = Endpoint(document)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found, f"http://127.0.0.1:{found.port}/jwks.json"
    finally:
        found.become("over")
        server.close()
        await server.wait_closed()


MODES = ("hanging", "slow", "flood", "down", "HTML", "nothing", "no set", "private", "broken", "moved")


async def test_known_keys_count_whatever_their_endpoint_does(keys: KeySet, caplog: pytest.LogCaptureFixture) -> None:
    """Old tokens and fresh ones, over every protocol; nothing is asked of another place; then all is well again."""
    caplog.set_level(logging.WARNING, "interlock.security")
    clock = Clock()
    issuer, number = Issuer(keys=keys, now=clock), itertools.count()
    shown = f"Bearer {issuer.mint('orders', ['whisperer'])}"

    def show() -> Mapping[str, str]:
        at = next(number)
        fresh = f"Bearer {issuer.mint(f's{at}', ['whisperer'])}"  # which no cache knows
        return {"authorization": fresh if at % 2 else shown}

    async with endpoint(jwks_document(keys.published)) as (place, url):
        verifier = Verifier(VerifyingKeys(jwks_from(url), clock=clock), now=clock, clock=clock)
        async with serving(make(verifier=verifier, roles=ROLES)) as address, whispering(address, show) as load:
            await load.more()
            for mode in MODES:
                place.become(mode)
                asked = place.asked
                clock.at += 301
                await until(lambda: place.asked > asked, 30)  # noqa: B023 - asked at once
                await load.more()
                if mode == "flood":
                    await until(lambda: verifier._own.keys._fetching is None, 30)
            place.become("sound")
            clock.at += 301
            asked = place.asked
            await until(lambda: place.asked > asked, 30)
            await until(lambda: verifier._own.keys.stale_at > clock.at + 200, 30)
    assert place.elsewhere == 0
    assert place.sent < 30 << 20, "what the sockets hold included: 256 KiB are read"
    assert caplog.text.count("cannot be read, 1 are known") >= len(MODES) - 2


async def test_a_storm_of_unknown_keys_through_the_doors(keys: KeySet, strangers: KeySet) -> None:
    """Hundreds of tokens with kids that nobody knows are one fetch in ten seconds, and good calls go on meanwhile."""
    clock = Clock()
    shown = f"Bearer {Issuer(keys=keys, now=clock).mint('orders', ['whisperer'])}"
    async with endpoint(jwks_document(keys.published)) as (place, url):
        verifier = Verifier(VerifyingKeys(jwks_from(url), clock=clock), now=clock, clock=clock)
        async with (
            serving(make(verifier=verifier, roles=ROLES)) as address,
            whispering(address, lambda: {"authorization": shown}) as load,
            httpx2.AsyncClient(base_url=address.url, timeout=30) as http,
        ):
            await load.more()

            async def storm() -> None:
                tokens = [forge(strangers, head=header(strangers, kid=f"k{each}")) for each in range(60)]
                sent = (
                    http.post("/v1/whisper", json={"text": "x"}, headers={"authorization": f"Bearer {each}"})
                    for each in tokens
                )
                assert {each.status_code for each in await asyncio.gather(*sent)} == {401}

            for step in range(3):
                clock.at += 10
                for _ in range(3):
                    await storm()
                assert place.asked == 2 + step
                await load.more(2)


async def test_another_set_is_not_believed_at_once(keys: KeySet, strangers: KeySet) -> None:
    """An endpoint that shows strangers' keys for a moment, in the place of all ours, stops nobody."""
    clock = Clock()
    ours, issuer = jwks_document(keys.published), Issuer(keys=keys, now=clock)
    swapped = json.loads(jwks_document(strangers.published))
    swapped["keys"][0]["kid"] = keys.kid  # theirs under our name
    for lie in (jwks_document(strangers.published), json.dumps(swapped).encode()):
        async with endpoint(ours) as (place, url):
            verifying = VerifyingKeys(jwks_from(url), clock=clock)
            verifier = Verifier(verifying, now=clock, clock=clock)

            async def good(verifier: Verifier = verifier) -> bool:
                token = issuer.mint(f"s{clock.at}", ["whisperer"])
                return (await verifier.verify(f"Bearer {token}".encode())).subject == f"s{clock.at}"

            assert await good()
            place.document = lie
            clock.at += 301
            await verifying.renew()
            assert place.asked == 2
            assert await good()
            clock.at += 9.9
            await verifying.renew()
            assert place.asked == 2
            place.document = ours
            clock.at += 0.1
            await verifying.renew()
            assert place.asked == 3
            assert await good()
            assert set(verifying._keys) == {keys.kid}
