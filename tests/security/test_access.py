"""Access by role: what `*`, `resource:*` and nothing grant, and what callers are told."""

from dataclasses import replace
from pathlib import Path

import pytest

from interlock.call import Call, Principal, Reply, compose
from interlock.contract.model import Operation
from interlock.errors import PermissionDenied, Unauthenticated
from interlock.security.access import Roles, RolesError, access, authorize, load_roles, roles_from, why
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, WHISPER

WHISPERING = SAMPLE_SERVICE.operation(WHISPER)
ROLES = roles_from(
    {
        "root": ["*"],
        "sampler": ["sample:*"],
        "whisperer": ["sample:whisper", "orders:read"],
        "echoer": ["sample:echo"],
        "shop": ["orders:*"],
        "longer": ["sample:whisper2", "samples:*"],
        "idle": [],
    }
)


def needing(permission: str) -> Operation:
    return replace(WHISPERING, permission=permission)


async def called(operation: Operation, principal: Principal | None, roles: Roles = ROLES) -> bool:
    async def answer(_call: Call) -> Reply:
        return EchoResponse()

    call = Call(operation, principal=principal)
    try:
        await compose([access(roles)], operation, answer)(call)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize(
    "held, may",
    [
        (["root"], True),
        (["sampler"], True),
        (["whisperer"], True),
        (["echoer"], False),
        (["shop"], False),
        (["longer"], False),
        (["idle"], False),
        (["unheard"], False),
        (["*"], False),
        (["sample:whisper"], False),
        ([], False),
        (["echoer", "unheard", "whisperer"], True),
    ],
)
async def test_a_role_may_what_it_holds(held: list[str], may: bool) -> None:
    """A permission is granted by itself, by its resource's star and by the star, and by nothing else."""
    assert await called(WHISPERING, Principal(subject="a", roles=frozenset(held))) is may


async def test_the_refusal_names_the_permission() -> None:
    """PERMISSION_DENIED tells what is needed, and nothing of who holds it."""
    call = Call(WHISPERING, principal=Principal(subject="a", roles=frozenset(["shop"])))
    with pytest.raises(PermissionDenied, match="sample:whisper") as raised:
        await compose([access(ROLES)], WHISPERING, never)(call)
    assert "whisperer" not in raised.value.message


async def never(_call: Call) -> Reply:
    raise AssertionError("the handler must not run")


async def test_nobody_is_unauthenticated() -> None:
    """Without a principal a call gets UNAUTHENTICATED, though authentication was left out of the stack."""
    with pytest.raises(Unauthenticated):
        await compose([access(ROLES)], WHISPERING, never)(Call(WHISPERING))


async def test_everything_is_closed_by_default() -> None:
    """Without roles nobody may; an operation that names no permission is closed to the star too."""
    root = Principal(subject="a", roles=frozenset(["root"]))
    assert not await called(WHISPERING, root, Roles())
    assert not await called(needing(""), root)


def test_open_operations_have_no_such_layer() -> None:
    """An operation open to anybody is left out, for consumers as well."""
    operation = SAMPLE_SERVICE.operation(ECHO)
    assert access(ROLES)(operation) is None
    assert access(ROLES, service_principal=Principal(subject="me"))(operation) is None


async def test_a_consumer_acts_as_its_own_service() -> None:
    """The service's principal stands in whoever came with the event; it needs the permission that is named, if any."""
    service = Principal(subject="inventory", roles=frozenset(["whisperer"]))
    for operation, principal in ((WHISPERING, service), (needing(""), replace(service, roles=frozenset()))):
        call = Call(operation, principal=Principal(subject="came with the event", roles=frozenset(["root"])))

        async def answer(seen: Call, principal: Principal = principal) -> Reply:
            assert seen.principal is principal
            return EchoResponse()

        await compose([access(ROLES, service_principal=principal)], operation, answer)(call)
    stranger = replace(service, roles=frozenset(["shop"]))
    with pytest.raises(PermissionDenied, match="sample:whisper"):
        await compose([access(ROLES, service_principal=stranger)], WHISPERING, never)(Call(WHISPERING))


def test_a_handler_asks_for_more() -> None:
    """`authorize` is the same decision for a permission that only the content tells."""
    call = Call(WHISPERING, principal=Principal(subject="a", roles=frozenset(["whisperer"])))
    authorize(call, "orders:read", ROLES)
    with pytest.raises(PermissionDenied, match="orders:refund"):
        authorize(call, "orders:refund", ROLES)
    with pytest.raises(Unauthenticated):
        authorize(Call(WHISPERING), "orders:read", ROLES)


def test_it_tells_why() -> None:
    """Each decision is explained in a sentence that names what granted it, or who would be."""
    assert why(ROLES, "sampler", WHISPERING) == (
        True,
        "Whisper needs sample:whisper, and sampler holds it, by sample:*",
    )
    assert why(ROLES, "whisperer", WHISPERING) == (True, "Whisper needs sample:whisper, and whisperer holds it")
    may, reason = why(ROLES, "shop", WHISPERING)
    assert not may
    assert reason.endswith("those who hold it: root, sampler, whisperer")
    assert why(ROLES, "idle", SAMPLE_SERVICE.operation(ECHO))[0]
    assert not why(ROLES, "root", needing(""))[0]
    assert why(roles_from({"idle": []}), "idle", WHISPERING)[1].endswith("no role holds it")
    with pytest.raises(RolesError, match="there is no role 'boss'"):
        why(ROLES, "boss", WHISPERING)


def test_roles_are_read_from_toml_and_json(tmp_path: Path) -> None:
    """Both forms say the same; no file is no permission."""
    toml = tmp_path / "roles.toml"
    toml.write_text('[roles]\nclerk = ["orders:read"]\n[certificates]\n"spiffe://shop/orders" = ["clerk"]\n')
    plain = tmp_path / "roles.json"
    plain.write_text('{"roles": {"clerk": ["orders:read"]}, "certificates": {"spiffe://shop/orders": ["clerk"]}}')
    expected = roles_from({"clerk": ["orders:read"]}, {"spiffe://shop/orders": ["clerk"]})
    assert load_roles(toml) == load_roles(plain) == expected
    assert load_roles(None) == Roles()


@pytest.mark.parametrize(
    "text, says",
    [
        (None, "there is no roles file"),
        ("[roles", "cannot be read"),
        ("roles = 5", r"must have a table \[roles\]"),
        ("[rolls]\na = []", "'rolls' is no table"),
        ('[roles]\nclerk = "orders:read"', r'clerk = \["…"\]'),
        ("[roles]\nclerk = 5", r'clerk = \["…"\]'),
        ("[roles]\nclerk = [5]", "no text"),
        ('[roles]\nclerk = ["orders"]', "'orders' is no permission"),
        ('[roles]\nclerk = ["*:read"]', "is no permission"),
        ('[roles]\nclerk = ["Orders:read"]', "is no permission"),
        ('[roles]\nclerk = ["orders:*:x"]', "is no permission"),
        ('[roles]\n"a clerk" = []', "is no name of a role"),
        ('[roles]\nclerk = []\n[certificates]\nx = ["boss"]', "there is no role 'boss'"),
    ],
)
def test_a_mistake_in_the_roles_is_named(tmp_path: Path, text: str | None, says: str) -> None:
    """A roles file that could mean something else than it says is refused, with the file's name."""
    path = tmp_path / "roles.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RolesError, match=says) as raised:
        load_roles(path)
    assert str(path) in str(raised.value)
