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


async def test_a_handler_asks_who_owns_it() -> None:
    """One call, with the roles the call came in by: the owner may, who holds the permission may, nobody else."""

    async def handler(call: Call) -> Reply:
        authorize(call, "orders:refund", owner="ada")
        return EchoResponse()

    chain = compose([access(ROLES)], WHISPERING, handler)
    for subject, role, may in (
        ("ada", "whisperer", True),
        ("bob", "whisperer", False),
        ("bob", "root", True),
        ("", "whisperer", False),
    ):
        call = Call(WHISPERING, principal=Principal(subject=subject, roles=frozenset([role])))
        if may:
            await chain(call)
        else:
            with pytest.raises(PermissionDenied, match="orders:refund"):
                await chain(call)
    stray = Call(WHISPERING, principal=Principal(subject="bob"))
    with pytest.raises(RuntimeError, match="hand the roles over"):
        authorize(stray, "orders:refund")
    nobodys = Call(WHISPERING, principal=Principal(subject=""))
    with pytest.raises(PermissionDenied):
        authorize(nobodys, "orders:refund", ROLES, owner="")


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


@pytest.mark.parametrize(
    "text, says",
    [
        ("roles: {clerk: [orders:read], clerk: []}", "twice"),
        ("roles: &a {clerk: [orders:read]}\ncertificates: *a", "aliases"),
        ("roles: !!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("roles: {clerk: orders:read}", r'clerk = \["…"\]'),
        ("roles: {1: [orders:read]}", "quote it: 1"),
        ("roles: {yes: [orders:read]}", "quote it: True"),
        ("roles: [", "cannot be read"),
        ("- roles", r"must have a table \[roles\]"),
        ("", r"must have a table \[roles\]"),
        ("[" * 5000, "cannot be read"),
        ("a: !!binary x", "cannot be read"),
    ],
)
def test_a_mistake_in_yaml_is_named(tmp_path: Path, text: str, says: str) -> None:
    """Nothing of YAML that could mean two things, or make objects, is taken."""
    path = tmp_path / "roles.yaml"
    path.write_text(text)
    with pytest.raises(RolesError, match=says) as raised:
        load_roles(path)
    assert str(path) in str(raised.value)


async def test_privileged_calls_are_audited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A permission that the file lists leaves a structured line for each call it lets through; so do refusals."""
    path = tmp_path / "roles.yaml"
    path.write_text("roles: {root: ['*'], idle: []}\nprivileged: ['sample:*']\n")
    roles = load_roles(path)

    async def answer(_call: Call) -> Reply:
        return EchoResponse()

    chain = compose([access(roles)], WHISPERING, answer)
    with caplog.at_level("INFO", "interlock.audit"):
        await chain(Call(WHISPERING, principal=Principal(subject="ada", issuer="corp", roles=frozenset(["root"]))))
        with pytest.raises(PermissionDenied):
            await chain(Call(WHISPERING, principal=Principal(subject="bob", roles=frozenset(["idle"]))))
    told = [
        (record.__dict__["audit"], record.__dict__["principal"], record.__dict__["operation"])
        for record in caplog.records
    ]
    path_of = "/sample.v1.SampleService/Whisper"
    assert told == [("privileged", "ada", path_of), ("refused", "bob", path_of)]
    caplog.clear()
    chain = compose([access(replace(roles, privileged=frozenset(["orders:*"])))], WHISPERING, answer)
    with caplog.at_level("INFO", "interlock.audit"):
        await chain(Call(WHISPERING, principal=Principal(subject="ada", roles=frozenset(["root"]))))
    assert not caplog.records


def test_roles_are_read_from_toml_json_and_yaml(tmp_path: Path) -> None:
    """Both forms say the same; no file is no permission."""
    toml = tmp_path / "roles.toml"
    toml.write_text('[roles]\nclerk = ["orders:read"]\n[certificates]\n"spiffe://shop/orders" = ["clerk"]\n')
    plain = tmp_path / "roles.json"
    plain.write_text('{"roles": {"clerk": ["orders:read"]}, "certificates": {"spiffe://shop/orders": ["clerk"]}}')
    yaml = tmp_path / "roles.yaml"
    yaml.write_text("roles:\n  clerk: [orders:read]\ncertificates:\n  spiffe://shop/orders: [clerk]\n")
    expected = roles_from({"clerk": ["orders:read"]}, {"spiffe://shop/orders": ["clerk"]})
    assert load_roles(toml) == load_roles(plain) == load_roles(yaml) == expected
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
