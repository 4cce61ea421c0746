"""Keys on disk: who may read them, which one signs, what a rotation leaves."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interlock.security.keys import JWKS, KeySet, KeySetError, ensure_keys, load_keys, new_keys, rotate_keys


def test_a_private_key_is_its_owners_alone(directory: Path, keys: KeySet) -> None:
    """Private keys have mode 0600, their directory 0700; the public set names no private member."""
    assert (directory / f"{keys.kid}.pem").stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    (published,) = json.loads((directory / JWKS).read_text())["keys"]
    assert published.keys() == {"kty", "use", "alg", "kid", "n", "e", "iat"}
    assert published["kid"] == keys.private.thumbprint()
    assert keys.published[0].made is not None
    assert abs((keys.published[0].made - datetime.now(UTC)).total_seconds()) < 3600


def test_the_repr_of_keys_shows_no_key(keys: KeySet) -> None:
    """Neither half of a key is in the repr of a set."""
    shown = repr(keys)
    assert keys.kid in shown
    assert str(keys.private.as_dict(private=True)["d"]) not in shown
    assert "RSAKey" not in shown
    assert keys.published[0].jwk["n"] not in shown


def test_keys_are_not_made_over_others(directory: Path) -> None:
    """Where keys are, no new set is made, and nothing changes."""
    before = sorted(directory.iterdir())
    with pytest.raises(KeySetError, match="interlock keys rotate"):
        new_keys(directory)
    assert sorted(directory.iterdir()) == before


def test_a_rotation_keeps_the_old_public_key(tmp_path: Path) -> None:
    """The new key stands in front and signs; the old one stays published without its private half."""
    first = new_keys(tmp_path / "keys", now=lambda: 1_700_000_000)
    second = rotate_keys(tmp_path / "keys", now=lambda: 1_700_000_100)
    assert second.kid != first.kid
    assert [each.kid for each in second.published] == [second.kid, first.kid]
    assert [each.made for each in second.published] == [
        datetime.fromtimestamp(at, UTC) for at in (1_700_000_100, 1_700_000_000)
    ]
    assert [each.name for each in (tmp_path / "keys").glob("*.pem")] == [f"{second.kid}.pem"]
    third = rotate_keys(tmp_path / "keys", keep=1)
    assert [each.kid for each in third.published] == [third.kid]


def test_many_processes_make_one_set(tmp_path: Path) -> None:
    """Whoever ensures keys at the same time as others gets the same key as they, and no stray file is left."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(ensure_keys(tmp_path / "keys").kid)) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sorted(each.name for each in (tmp_path / "keys").iterdir()) == sorted([f"{found[0]}.pem", JWKS])


@pytest.mark.parametrize(
    "document, says",
    [
        (None, "interlock keys new"),
        ("{", "is not a JSON Web Key Set"),
        ("[]", "is not a JSON Web Key Set"),
        ('{"keys": [{"kty": "RSA"}]}', "is not a JSON Web Key Set"),
        ('{"keys": [{"kid": "../../etc/passwd"}]}', "an id is up to 128 letters"),
        ('{"keys": [{"kid": 5}]}', "an id is up to 128 letters"),
        ('{"keys": []}', "holds no private key"),
        ('{"keys": [{"kid": "another"}]}', "holds no private key"),
    ],
)
def test_a_broken_set_says_what_is_wrong(tmp_path: Path, document: str | None, says: str) -> None:
    """A set that is missing or malformed is told in a sentence; a key id never becomes a path."""
    if document is not None:
        (tmp_path / JWKS).write_text(document)
    with pytest.raises(KeySetError, match=says):
        load_keys(tmp_path)


def test_a_private_key_must_fit_its_public_one(tmp_path: Path, keys: KeySet, strangers: KeySet) -> None:
    """A PEM file that holds another key, or none, is refused, and its text is not told."""
    pem = tmp_path / f"{keys.kid}.pem"
    (tmp_path / JWKS).write_text(json.dumps({"keys": [dict(keys.published[0].jwk)]}))
    pem.write_bytes(strangers.private.as_pem(private=True))
    with pytest.raises(KeySetError, match="is not the private key of"):
        load_keys(tmp_path)
    pem.write_text("secret text")
    with pytest.raises(KeySetError, match="cannot be read") as raised:
        load_keys(tmp_path)
    assert "secret text" not in str(raised.value)


def test_short_keys_and_empty_sets_are_refused(tmp_path: Path) -> None:
    """RSA keys below 2048 bits are not made, nor rotations that keep nothing."""
    with pytest.raises(ValueError, match="2048"):
        new_keys(tmp_path / "keys", bits=1024)
    with pytest.raises(ValueError, match="is kept"):
        rotate_keys(tmp_path, keep=0)
