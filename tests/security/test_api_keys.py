"""API keys and service accounts, in a file and in databases: who gets in, for how long, and who no more."""

import asyncio
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from interlock import App, Database
from interlock.data.accounts import StoredAccounts
from interlock.errors import AlreadyExists, InvalidArgument, NotFound, ResourceExhausted, Unavailable
from interlock.security.access import roles_from
from interlock.security.account_file import AccountFile
from interlock.security.api_keys import AccountStore, ApiKeys, create_account, create_key
from interlock.security.refused import CredentialRefused
from interlock.settings import Settings
from tests.data.databases import ENGINES, drop, new_url
from tests.sample.handlers import make
from tests.security.asking import PROTOCOLS, ask
from tests.security.forging import Clock
from tests.waiting import until


@pytest.fixture(params=["file", *ENGINES])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AccountStore]:
    """Each place where accounts can be, one after the other."""
    if request.param == "file":
        yield AccountFile(tmp_path / "accounts.json")
        return
    url = await new_url(request.param, tmp_path)
    async with Database(url) as database:
        yield StoredAccounts(database)
    await drop(url)


async def reason(keys: ApiKeys, value: str) -> str:
    with pytest.raises(CredentialRefused) as raised:
        await keys.verify(value.encode())
    return str(raised.value)


async def test_a_key_is_its_account(store: AccountStore) -> None:
    """Its roles are the account's, or those that it was narrowed to; a lost role of the account is lost to it."""
    await create_account(store, "billing", ["clerk", "porter"])
    _, whole = await create_key(store, "billing")
    kept, narrow = await create_key(store, "billing", ["porter"], lifetime=timedelta(days=1))
    keys = ApiKeys(store)
    found = await keys.verify(whole.encode())
    assert (found.subject, found.issuer, found.roles) == ("billing", "api-key", frozenset(["clerk", "porter"]))
    assert found.credential == "", "an API key is not handed on"
    assert (await keys.verify(narrow.encode())).roles == {"porter"}
    assert keys.known(narrow.encode()) is not None
    assert [each.id for each in await store.keys("billing")][:2]
    assert kept.hash not in narrow.encode()
    assert narrow.startswith(f"ilk_{kept.id}_")
    assert narrow not in repr(kept) + repr(await store.keys())


async def test_what_cannot_be_made_says_why(store: AccountStore) -> None:
    """A name twice, a name that is none, a role that the account lacks, an account that is not there."""
    await create_account(store, "billing", ["clerk"])
    with pytest.raises(AlreadyExists, match="billing"):
        await create_account(store, "billing")
    for name in ("", "a b", "../x", "x" * 129):
        with pytest.raises(InvalidArgument, match="no name"):
            await create_account(store, name)
    with pytest.raises(InvalidArgument, match="'root'"):
        await create_key(store, "billing", ["root"])
    for missing in (create_key(store, "nobody"), store.disable("nobody"), store.revoke("nothing", 0.0)):
        with pytest.raises(NotFound):
            await missing


async def test_keys_that_count_no_more(store: AccountStore) -> None:
    """Revoked, expired, of a disabled account, of another secret, unknown, malformed: each is refused."""
    clock = Clock()
    keys = ApiKeys(store, now=clock, clock=clock)
    await create_account(store, "billing", ["clerk"])
    kept, revoked = await create_key(store, "billing", now=clock)
    _, expiring = await create_key(store, "billing", lifetime=timedelta(minutes=5), now=clock)
    await store.revoke(kept.id, clock())
    assert "revoked" in await reason(keys, revoked)
    with pytest.raises(NotFound):
        await store.revoke(kept.id, clock())
    await keys.verify(expiring.encode())
    clock.at += 301
    assert keys.known(expiring.encode()) is None
    assert "expired" in await reason(keys, expiring)
    _, sound = await create_key(store, "billing", now=clock)
    other = sound[:-1] + ("0" if sound[-1] != "0" else "1")
    assert "not known" in await reason(keys, other)
    assert "not known" in await reason(keys, f"ilk_{'0' * 16}_{'0' * 64}")
    for malformed in ("", "x", sound + "0", sound.upper(), "ilk_é", "x" * 10_000):
        assert "form" in await reason(keys, malformed)
    await store.disable("billing")
    assert "disabled" in await reason(keys, sound)
    await store.disable("billing", disabled=False)
    assert (await keys.verify(sound.encode())).subject == "billing"


async def test_a_pepper_is_part_of_every_hash(store: AccountStore) -> None:
    """Without the secret that was hashed along, no key of the store counts."""
    await create_account(store, "billing", ["clerk"])
    _, key = await create_key(store, "billing", pepper=b"salt")
    assert (await ApiKeys(store, pepper=b"salt").verify(key.encode())).subject == "billing"
    assert "not known" in await reason(ApiKeys(store), key)


async def test_a_revocation_is_in_force_within_five_seconds(store: AccountStore) -> None:
    """In every worker: one that is busy with the key looks behind the calls, one that is not looks first."""
    clock = Clock()
    workers = [ApiKeys(store, now=clock, clock=clock) for _ in range(2)]
    await create_account(store, "billing", ["clerk"])
    kept, key = await create_key(store, "billing", now=clock)
    value = key.encode()
    for each in workers:
        await each.verify(value)
    await store.revoke(kept.id, clock())
    busy, idle = workers
    clock.at += 1.9
    assert busy.known(value) is not None
    clock.at += 0.2
    busy.known(value)
    await until(lambda: busy.known(value) is None)
    clock.at += 2
    assert idle.known(value) is None
    assert "revoked" in await reason(idle, key)


async def test_a_store_that_is_down_is_no_fault_of_the_caller(tmp_path: Path, store: AccountStore) -> None:
    """UNAVAILABLE, not 401; known keys go on for their moments."""

    class Down:
        def __getattr__(self, name: str) -> object:
            async def fail(*_: object) -> None:
                raise ConnectionError("down")

            return fail

    clock = Clock()
    await create_account(store, "billing", ["clerk"])
    _, key = await create_key(store, "billing")
    keys = ApiKeys(store, clock=clock)
    await keys.verify(key.encode())
    keys.store = Down()  # type: ignore[assignment]
    clock.at += 3
    assert keys.known(key.encode()) is not None
    await asyncio.sleep(0.05)
    assert keys.known(key.encode()) is not None
    clock.at += 2
    assert keys.known(key.encode()) is None
    with pytest.raises(Unavailable):
        await keys.verify(key.encode())


async def test_guessing_is_slowed_down(store: AccountStore) -> None:
    """After twenty failures an address is not listened to for a minute, others are; known keys go on."""
    clock = Clock()
    keys = ApiKeys(store, now=clock, clock=clock)
    await create_account(store, "billing", ["clerk"])
    _, sound = await create_key(store, "billing", now=clock)
    _, another = await create_key(store, "billing", now=clock)
    await keys.verify(sound.encode(), "192.0.2.1")
    for number in range(20):
        with pytest.raises(CredentialRefused):
            await keys.verify(f"ilk_{number:016x}_{'0' * 64}".encode(), "192.0.2.1")
    with pytest.raises(ResourceExhausted) as raised:
        await keys.verify(another.encode(), "192.0.2.1")
    assert raised.value.retry_after is not None
    assert keys.known(sound.encode()) is not None
    assert (await keys.verify(another.encode(), "192.0.2.2")).subject == "billing"
    clock.at += 65
    assert (await keys.verify(another.encode(), "192.0.2.1")).subject == "billing"


async def test_writers_of_one_file_take_turns(tmp_path: Path) -> None:
    """Many at once lose nothing, and only the owner reads the file; a broken one is told as such."""
    place = tmp_path / "accounts.json"
    await asyncio.gather(*(create_account(AccountFile(place), f"a{number}") for number in range(20)))
    assert len(await AccountFile(place).accounts()) == 20
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    for broken in ("", "{}", "[]", '{"accounts": [{}], "keys": []}', '{"accounts": 5, "keys": []}'):
        place.write_text(broken)
        with pytest.raises(Unavailable, match="cannot be read"):
            await AccountFile(place).accounts()


@pytest.fixture(params=ENGINES)
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[App]:
    """The sample app, whose accounts are in a database of their own, on each engine."""
    url = await new_url(request.param, tmp_path)
    settings = Settings(accounts=url, keys=tmp_path / "keys")
    started = make(settings=settings, roles=roles_from({"whisperer": ["sample:whisper"], "idle": []}))
    async with started:
        yield started
    await drop(url)


def accounts_of(app: App) -> Database:
    """Return the database with the app's accounts, not started."""
    return Database(app.settings.accounts.reveal())


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_key_gets_in_over_every_protocol(app: App, protocol: str) -> None:
    """401 and 403 as for tokens, the body unread; a key beside a token, or twice, is none; too many are 429."""
    async with accounts_of(app) as database:
        store = StoredAccounts(database)
        await create_account(store, "billing", ["whisperer"])
        await create_account(store, "lazy", ["idle"])
        _, key = await create_key(store, "billing")
        _, lazy = await create_key(store, "lazy")
    assert (await ask(app, protocol, [("x-api-key", key)])).code == "OK"
    refused = await ask(app, protocol, [("x-api-key", lazy)])
    assert (refused.code, refused.read) == ("PERMISSION_DENIED", False)
    for headers in (
        [],
        [("x-api-key", key + "0")],
        [("x-api-key", key), ("x-api-key", key)],
        [("x-api-key", key), ("authorization", "Bearer abc")],
    ):
        refused = await ask(app, protocol, headers)
        assert (refused.code, refused.read) == ("UNAUTHENTICATED", False)
        assert key.encode() not in refused.content
    for _ in range(30):
        limited = await ask(app, protocol, [("x-api-key", f"ilk_{'0' * 16}_{'0' * 64}")], host="192.0.2.99")
    assert limited.code in ("RESOURCE_EXHAUSTED", "RATE_LIMITED")


async def test_the_age_of_keys_is_a_metric(app: App) -> None:
    """The oldest that was used lately."""
    assert "service_api_key_age_seconds 0.0" in app._parts.metrics.exposition()[1].decode()
    async with accounts_of(app) as database:
        store = StoredAccounts(database)
        await create_account(store, "billing", ["whisperer"])
        _, key = await create_key(store, "billing", now=lambda: 1_000_000_000.0)
    assert (await ask(app, "rest", [("x-api-key", key)])).code == "OK"
    line = next(
        each for each in app._parts.metrics.exposition()[1].decode().splitlines() if each.startswith("service_api_key")
    )
    assert float(line.split()[1]) > 700_000_000


async def test_the_age_is_of_keys_in_use(tmp_path: Path) -> None:
    """A key that nobody used for an hour is no concern of the metric, so that a replaced one is forgotten."""
    clock = Clock()
    store = AccountFile(tmp_path / "accounts.json")
    keys = ApiKeys(store, now=clock, clock=clock)
    await create_account(store, "billing", ["clerk"])
    _, old = await create_key(store, "billing", now=clock)
    clock.at += 500
    await keys.verify(old.encode())
    assert keys.age() == 500
    clock.at += 3601
    _, fresh = await create_key(store, "billing", now=clock)
    await keys.verify(fresh.encode())
    assert keys.age() == 0
