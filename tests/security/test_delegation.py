"""What the next service learns of who asks: the caller's token, or the service's own that names the caller."""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from interlock import App
from interlock.call import Call, Principal, current_call
from interlock.contract.model import Operation
from interlock.security.access import roles_from
from interlock.security.credentials import Credentials, ServiceToken
from interlock.security.jwks import VerifyingKeys, jwks_from
from interlock.security.keys import JWKS, KeySet
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import Issuer
from interlock.security.verifier import Verifier
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import Sample, make
from tests.security.forging import Clock, claims, forge

ROLES = roles_from({"whisperer": ["sample:whisper"], "service": ["sample:whisper"]})


@dataclass
class Hop(Sample):
    """Whispers to the next, and notes who asked and what came along."""

    next: SampleServiceClient | None = None
    asked: list[Principal] = field(default_factory=list)
    metadata: list[dict[str, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def whisper(self, request: EchoRequest, call: Call) -> EchoResponse:
        assert call.principal is not None
        self.asked.append(call.principal)
        self.metadata.append(dict(call.metadata.items()))
        if self.next is not None:
            return await self.next.whisper(text=request.text)
        return EchoResponse(text=request.text)


def settings(directory: Path, name: str, acts_as: str) -> Settings:
    return Settings(keys=directory, service_name=name, service_roles=("service",), acts_as=acts_as)


class Line:
    """Three services, each calling the next in process."""

    def __init__(self, directory: Path, acts_as: str, **client: object) -> None:
        self.hops = [Hop(), Hop(), Hop()]
        self.apps: list[App] = []
        for name, hop in zip("cba", reversed(self.hops), strict=True):
            own = settings(directory, name, acts_as)
            if self.apps:
                hop.next = SampleServiceClient(self.apps[-1], credentials=own.credentials(), **client)  # type: ignore[arg-type]
            self.apps.append(make(hop, settings=own, roles=ROLES))

    async def __aenter__(self) -> "Line":
        for app in self.apps:
            await app.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for app in self.apps:
            await app.stop()

    def client(self, credentials: Credentials | None = None) -> SampleServiceClient:
        return SampleServiceClient(self.apps[-1], credentials=credentials)

    @property
    def seen(self) -> list[tuple[str, set[str], tuple[str, ...]]]:
        return [(who.subject, set(who.roles), who.actors) for hop in self.hops for who in hop.asked]


async def ask(line: Line, token: str, **metadata: str) -> None:
    async with line.client() as client:
        await client.using(metadata={"authorization": f"Bearer {token}", **metadata}).whisper(text="hush")


async def test_by_default_the_callers_own_token_travels(directory: Path, keys: KeySet) -> None:
    """Every hop sees the caller with the caller's roles: nobody gains any by asking a service to ask."""
    token = Issuer(keys=keys).mint("ada", ["whisperer"])
    async with Line(directory, "caller") as line:
        await ask(line, token)
        assert line.seen == [("ada", {"whisperer"}, ())] * 3
        assert {who.credential for hop in line.hops for who in hop.asked} == {token}


async def test_a_service_may_act_for_its_caller(directory: Path, keys: KeySet) -> None:
    """The next hop sees the caller as subject, who acts, and the actor's roles; the token stays at the edge."""
    token = Issuer(keys=keys).mint("ada", ["whisperer"])
    async with Line(directory, "service") as line:
        await ask(line, token)
        assert line.seen == [
            ("ada", {"whisperer"}, ()),
            ("ada", {"service"}, ("a",)),
            ("ada", {"service"}, ("b", "a")),
        ]
        assert [who.issuer for hop in line.hops for who in hop.asked] == ["service-auth"] * 3
        assert token not in {who.credential for hop in line.hops[1:] for who in hop.asked}


async def test_the_issuer_of_the_subject_travels_along(directory: Path) -> None:
    """Somebody of another issuer is not taken for somebody of ours who has the same name."""
    given = ServiceToken("orders", keys=directory, delegated=True)
    caller = Principal(subject="ada", issuer="https://id.example", roles=frozenset(["customer"]))
    shown = {}
    for principal in (caller, Principal(subject="orders", issuer=""), None):
        token = current_call.set(Call(_operation(), principal=principal) if principal else None)
        call = Call(_operation())
        await given.apply(call)
        current_call.reset(token)
        found = await Verifier.at(directory / JWKS).verify((call.metadata.get("authorization") or "").encode())
        shown[principal.subject if principal else ""] = found
    assert (shown["ada"].subject, shown["ada"].issuer, shown["ada"].actors) == (
        "ada",
        "https://id.example",
        ("orders",),
    )
    for own in ("orders", ""):
        assert (shown[own].subject, shown[own].issuer, shown[own].actors) == ("orders", "service-auth", ())


def _operation() -> Operation:
    from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, WHISPER

    return SAMPLE_SERVICE.operation(WHISPER)


@pytest.mark.parametrize(
    "act",
    ["orders", {}, {"sub": ""}, {"sub": 5}, {"sub": "a\nb"}, {"sub": "a", "act": []}, {"sub": "x" * 256}, "deep"],
    ids=repr,
)
async def test_malformed_actors_are_refused(directory: Path, keys: KeySet, act: object) -> None:
    """A claim that names who acts is read whole or the token counts for nothing."""
    if act == "deep":
        for _ in range(9):
            act = {"sub": "a", "act": act} if isinstance(act, dict) else {"sub": "a"}
    verifier = Verifier(VerifyingKeys(jwks_from(directory / JWKS), clock=Clock()), now=Clock(), clock=Clock())
    with pytest.raises(CredentialRefused, match="act"):
        await verifier.verify(b"Bearer " + forge(keys, body=claims(act=act)).encode())


async def test_a_chain_of_actors_is_bounded(keys: KeySet) -> None:
    """No token is minted that no service would take."""
    caller = Principal(subject="ada", actors=tuple("abcdefgh"))
    with pytest.raises(ValueError, match="at most 8"):
        Issuer(keys=keys).mint("orders", behalf=caller, lifetime=timedelta(minutes=1))


async def test_only_what_is_allowed_is_handed_on(directory: Path, keys: KeySet) -> None:
    """Metadata of the caller stays where it came to, but for the names that a client hands on."""
    token = Issuer(keys=keys).mint("ada", ["whisperer"])
    given = {"x-tenant": "north", "x-other": "secret"}
    async with Line(directory, "caller") as line:
        await ask(line, token, **given)
        assert line.hops[0].metadata[0]["x-tenant"] == "north"
        assert not {"x-tenant", "x-other"} & line.hops[1].metadata[0].keys()
    async with Line(directory, "caller", hands_on=["X-Tenant"]) as line:
        await ask(line, token, **given)
        for hop in line.hops:
            assert hop.metadata[0]["x-tenant"] == "north"
        assert "x-other" not in line.hops[1].metadata[0]


@pytest.mark.parametrize("name", ["authorization", "X-API-Key", "x-forwarded-user", "baggage", "cookie"])
def test_identity_is_not_handed_on_as_metadata(name: str) -> None:
    """It has its own way."""
    with pytest.raises(ValueError, match="not handed on"):
        SampleServiceClient("127.0.0.1:1", hands_on=[name])
