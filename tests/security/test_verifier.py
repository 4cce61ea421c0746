"""Verifying in the long run: the cache, key sets that change, fail or are asked for too often."""

import asyncio
import gc
import json
from pathlib import Path

import pytest
from joserfc.jwk import ECKey, OctKey

from interlock.security.jwks import LARGEST_SET, JwksPage, VerifyingKeys, jwks_from, parse_jwks
from interlock.security.keys import JWKS, KeySet, jwks_document, new_keys, rotate_keys
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import Issuer
from interlock.security.verifier import Verifier
from tests.security.forging import NOW, Clock, claims, forge, header
from tests.waiting import until
from tests.web import Documents, Moved, documents_at


class Source:
    """A key set that counts how often it is asked for, and may be down."""

    def __init__(self, *keys: KeySet) -> None:
        self.keys = keys
        self.asked = 0
        self.down = False

    async def __call__(self) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise ConnectionError("down")
        return jwks_document(tuple(each for keys in self.keys for each in keys.published))


def verifier_of(source: Source, clock: Clock, most: int = 2048) -> Verifier:
    return Verifier(VerifyingKeys(source, clock=clock), now=clock, clock=clock, most=most)


def bearer(token: str) -> bytes:
    return b"Bearer " + token.encode()


async def test_a_verified_token_is_known_until_it_expires(keys: KeySet) -> None:
    """A look-up answers for a token that verified, as the same principal, up to the skew behind its expiry."""
    clock = Clock()
    verifier = verifier_of(Source(keys), clock)
    value = bearer(forge(keys, body=claims(exp=int(NOW) + 100)))
    assert verifier.known(value) is None
    found = await verifier.verify(value)
    clock.at = NOW + 159
    assert verifier.known(value) is found
    clock.at = NOW + 160
    assert verifier.known(value) is None
    with pytest.raises(CredentialRefused, match="expired"):
        await verifier.verify(value)


async def test_the_cache_is_bounded(keys: KeySet) -> None:
    """Beyond its size the tokens go that were not used for longest; refused ones never enter."""
    verifier = verifier_of(Source(keys), Clock(), most=3)
    values = [bearer(forge(keys, body=claims(sub=f"s{number}"))) for number in range(5)]
    for value in values[:3]:
        await verifier.verify(value)
    assert verifier.known(values[0]) is not None
    for value in values[3:]:
        await verifier.verify(value)
    assert [verifier.known(value) is not None for value in values] == [True, False, False, True, True]
    with pytest.raises(CredentialRefused):
        await verifier.verify(bearer(forge(keys, body=claims(aud="others"))))
    assert [verifier.known(value) is not None for value in values] == [True, False, False, True, True]


async def test_a_storm_of_unknown_keys_is_one_fetch_in_ten_seconds(keys: KeySet, strangers: KeySet) -> None:
    """Unknown kids, however many and however simultaneous, ask for the key set once in ten seconds."""
    clock, source = Clock(), Source(keys)
    verifier = verifier_of(source, clock)
    await verifier.verify(bearer(forge(keys)))
    assert source.asked == 1
    unknown = [bearer(forge(strangers, head=header(strangers, kid=f"k{number}"))) for number in range(200)]

    async def storm() -> None:
        results = await asyncio.gather(*(verifier.verify(each) for each in unknown), return_exceptions=True)
        assert all(isinstance(each, CredentialRefused) for each in results)

    for at, expected in ((9.9, 1), (10.0, 2), (19.9, 2), (20.0, 3)):
        clock.at = NOW + at
        await storm()
        assert source.asked == expected


async def test_a_rotated_key_counts_at_once(tmp_path: Path) -> None:
    """A token of a key made after the last fetch verifies, and so do those of the key before."""
    clock = Clock()
    first = new_keys(tmp_path / "keys")
    verifier = Verifier(VerifyingKeys(jwks_from(tmp_path / "keys" / JWKS), clock=clock), now=clock, clock=clock)
    await verifier.verify(bearer(forge(first)))
    second = rotate_keys(tmp_path / "keys")
    clock.at += 10
    await verifier.verify(bearer(forge(second)))
    await verifier.verify(bearer(forge(first, body=claims(sub="another"))))


async def test_a_withdrawn_key_counts_no_more(keys: KeySet, strangers: KeySet) -> None:
    """Once a key has left the set its tokens are refused, also those that verified before."""
    clock, source = Clock(), Source(keys, strangers)
    verifier = verifier_of(source, clock)
    value = bearer(forge(keys))
    await verifier.verify(value)
    source.keys = (strangers,)
    clock.at = NOW + 300
    assert verifier.known(value) is not None  # the set is renewed behind this call
    await until(lambda: verifier.known(value) is None)
    assert source.asked == 2
    with pytest.raises(CredentialRefused, match="is not known"):
        await verifier.verify(value)


async def test_a_source_that_is_down_does_not_stop_known_keys(keys: KeySet, strangers: KeySet) -> None:
    """While the set cannot be renewed, cached and fresh tokens of known keys verify; it is tried every ten seconds."""
    clock, source = Clock(), Source(keys)
    verifier = verifier_of(source, clock)
    value = bearer(forge(keys))
    await verifier.verify(value)
    source.down = True
    for step in range(5):
        clock.at = NOW + 300 + 10 * step
        assert verifier.known(value) is not None
        assert verifier.known(value) is not None
        await verifier.verify(bearer(forge(keys, body=claims(sub=f"s{step}"))))
        await until(lambda step=step: source.asked == 2 + step)  # type: ignore[misc]  # bound early
        await asyncio.sleep(0)
    with pytest.raises(CredentialRefused, match="is not known"):
        await verifier.verify(bearer(forge(strangers)))
    source.down, source.keys = False, (keys, strangers)
    clock.at += 10
    await verifier.verify(bearer(forge(strangers)))


async def test_a_call_that_gives_up_does_not_stop_the_fetch_of_others(keys: KeySet) -> None:
    """Of two calls that wait for the key set, one may be cancelled; the other gets its keys."""
    going = asyncio.Event()

    async def slow() -> bytes:
        await going.wait()
        return jwks_document(keys.published)

    clock = Clock()
    verifier = Verifier(VerifyingKeys(slow, clock=clock), now=clock, clock=clock)
    first, second = (asyncio.create_task(verifier.verify(bearer(forge(keys)))) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0)
    going.set()
    assert (await second).subject == "orders"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_closing_stops_a_fetch() -> None:
    """A fetch that hangs ends with the verifier."""

    async def hang() -> bytes:
        await asyncio.Event().wait()
        return b""

    verifier = Verifier(VerifyingKeys(hang))
    starting = asyncio.create_task(verifier.start())
    await asyncio.sleep(0.01)
    await verifier.close()
    await asyncio.wait_for(starting, 1)


def test_only_sound_keys_are_taken_from_a_set(keys: KeySet, strangers: KeySet) -> None:
    """Keys of other kinds, uses and sizes are passed over, a secret among them too; the first of a kid counts."""
    sound = dict(keys.published[0].jwk)
    others = [
        {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "elliptic"},
        {**OctKey.generate_key(256).as_dict(private=True), "kid": "secret"},
        {**sound, "kid": "encrypts", "use": "enc"},
        {**sound, "kid": "another algorithm", "alg": "RS512"},
        {**sound, "kid": 5},
        {**sound, "kid": "short", "n": sound["n"][:100]},
        {**sound, "kid": "a bit short", "n": "A" + sound["n"][1:]},
        {**sound, "kid": "broken", "n": "!" * 400},
        dict(strangers.published[0].jwk) | {"kid": sound["kid"]},
        "text",
        None,
    ]
    found = parse_jwks(json.dumps({"keys": [sound, *others]}).encode())
    assert found.keys() == {keys.kid}
    assert found[keys.kid].as_dict(private=False)["n"] == sound["n"]


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys": 5}', b'{"keys": []}', b'{"keys": [{}]}', b"[" * 100_000, b" " * (LARGEST_SET + 1)],
    ids=lambda document: document[:12],
)
def test_a_set_without_a_sound_key_is_none(document: bytes) -> None:
    """What is no set, or has no usable key, is a failure, so that the keys there are stay."""
    with pytest.raises(ValueError, match=r"[sS]et\b"):
        parse_jwks(document)


async def test_keys_come_from_a_url(keys: KeySet, caplog: pytest.LogCaptureFixture) -> None:
    """A set is fetched over HTTP; redirects and sets above 256 KiB are failures."""
    documents: Documents = {
        "/jwks.json": jwks_document(keys.published),
        "/moved": Moved("/jwks.json"),
        "/large": b" " * (LARGEST_SET + 10),
    }
    with documents_at(documents) as url:
        verifier = Verifier.at(f"{url}/jwks.json")
        assert (await verifier.verify(bearer(Issuer(keys=keys).mint("orders")))).subject == "orders"
        for path in ("/moved", "/large"):
            failing = VerifyingKeys(jwks_from(url + path))
            await failing.renew()
            assert not failing.loaded
        assert "302" in caplog.text
        assert "larger than" in caplog.text
        gc.collect()  # what a failure left open would warn here


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/jwks.json", "file:///etc/passwd", "javascript://x"])
def test_keys_come_from_nowhere_else(place: str) -> None:
    """Another kind of URL is refused when the verifier is made."""
    with pytest.raises(ValueError, match="https://"):
        Verifier.at(place)


async def test_the_published_page_holds_public_members_only(tmp_path: Path, keys: KeySet) -> None:
    """The page serves what verifiers need, whatever else stands in the file, and follows the file."""
    clock = Clock()
    path = tmp_path / JWKS
    page = JwksPage(path, clock=clock)
    assert json.loads(await page()) == {"keys": []}
    path.write_text(json.dumps({"keys": [keys.private.as_dict(private=True) | {"note": "internal"}]}))
    clock.at += 5
    body = await page()
    assert parse_jwks(body).keys() == {keys.kid}
    (published,) = json.loads(body)["keys"]
    assert published.keys() == {"kty", "use", "kid", "n", "e"}
    path.write_text("broken")
    clock.at += 5
    assert await page() == body
