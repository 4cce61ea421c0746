"""Mutual TLS by its outcome: who gets a call through, over sockets. A handshake that succeeds proves nothing."""

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc import aio

from interlock import App
from interlock.security.access import roles_from
from interlock.security.certificates import issue, new_authority
from interlock.server import Address, Tls, serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.handlers import make
from tests.security.load import calling
from tests.waiting import until

DAY = datetime.timedelta(days=1)
ROLES = roles_from(
    {"whisperer": ["sample:whisper"]},
    {"spiffe://shop/orders": ["whisperer"], "porter.shop": ["whisperer"]},
)


@dataclass
class Identity:
    """A client's certificate chain and key."""

    certificate: bytes
    key: bytes


def foreign(
    authority: Path,
    *,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
    server: bool = False,
    through: tuple[datetime.timedelta, datetime.timedelta] | None = None,
) -> Identity:
    """Return a certificate that `interlock keys certs` would not make, of the authority in that directory.

    With `through` an authority between the two, which is good for that time, has signed it.
    """
    signer = serialization.load_pem_private_key((authority / "authority.key").read_bytes(), None)
    ours = x509.load_pem_x509_certificate((authority / "authority.pem").read_bytes())
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    chain = b""
    if through is not None:
        between = ec.generate_private_key(ec.SECP256R1())
        ours = (
            built("between", ours.subject, between, *through)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(signer, hashes.SHA256())
        )
        signer, chain = between, ours.public_bytes(serialization.Encoding.PEM)
    key = ec.generate_private_key(ec.SECP256R1())
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        built("orders", ours.subject, key, begins, ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://shop/orders")]), critical=False
        )
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return Identity(
        certificate.public_bytes(serialization.Encoding.PEM) + chain,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def built(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def issued(directory: Path, name: str, names: list[str]) -> Identity:
    certificate, key = issue(directory, name, names)
    return Identity(certificate.read_bytes(), key.read_bytes())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority and the server's certificate."""
    directory = tmp_path_factory.mktemp("certificates") / "certs"
    new_authority(directory)
    issue(directory, "server", ["localhost", "127.0.0.1"])
    return directory


def tls(authority: Path) -> Tls:
    return Tls(
        certificate=authority / "server.pem",
        key=authority / "server.key",
        client_authorities=authority / "authority.pem",
    )


@pytest.fixture
def app(tmp_path: Path) -> App:
    """The sample app under mutual TLS."""
    return guarded(tmp_path)


def guarded(tmp_path: Path, **settings: object) -> App:
    files = {
        "tls_certificate": tmp_path / "server.pem",
        "tls_key": tmp_path / "server.key",
        "tls_client_authorities": tmp_path / "authority.pem",
    }
    return make(settings=Settings(keys=tmp_path / "keys", **(files | settings)), roles=ROLES)  # type: ignore[arg-type]


@asynccontextmanager
async def channel_to(authority: Path, address: Address, shown: Identity | None) -> AsyncIterator[aio.Channel]:
    credentials = grpc.ssl_channel_credentials(
        (authority / "authority.pem").read_bytes(),
        shown.key if shown else None,
        shown.certificate if shown else None,
    )
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with aio.secure_channel(f"localhost:{address.port}", credentials, options) as channel:
        yield channel


async def whisper(authority: Path, address: Address, shown: Identity | None, door: str = "grpc") -> str:
    """Return `OK`, or the code that a call ends with; UNAVAILABLE where none comes."""
    if door != "grpc":
        return await posted(authority, address, shown, door)
    async with channel_to(authority, address, shown) as channel:
        call = channel.unary_unary("/sample.v1.SampleService/Whisper", EchoRequest.to_binary, EchoResponse.from_binary)
        try:
            await call(EchoRequest(text="hush"), timeout=20)
        except aio.AioRpcError as refused:
            return str(refused.code().name)
        return "OK"


def context_of(authority: Path, shown: Identity | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority / "authority.pem"))
    if shown is not None:
        with TemporaryDirectory() as directory:
            chain, key = Path(directory, "chain.pem"), Path(directory, "key.pem")
            chain.write_bytes(shown.certificate)
            key.write_bytes(shown.key)
            context.load_cert_chain(chain, key)
    return context


async def posted(authority: Path, address: Address, shown: Identity | None, door: str) -> str:
    context = context_of(authority, shown)
    path = "/v1/whisper" if door == "rest" else "/sample.v1.SampleService/Whisper"
    async with httpx2.AsyncClient(verify=context, timeout=20) as client:
        try:
            answer = await client.post(f"https://localhost:{address.port}{path}", json={"text": "hush"})
        except (httpx2.TransportError, ssl.SSLError):  # the server says so after its handshake has ended for us
            return "UNAVAILABLE"
    return {200: "OK", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}[answer.status_code]


@pytest.mark.parametrize("door", ["grpc", "connect", "rest"])
async def test_no_call_gets_through_without_a_sound_certificate(
    door: str, authority: Path, app: App, tmp_path: Path
) -> None:
    """None, another authority's, expired, not yet valid, for servers alone: no call; else by its name's roles."""
    strangers = tmp_path / "strangers"
    new_authority(strangers)
    refused = {
        "none": None,
        "another authority's": issued(strangers, "orders", ["spiffe://shop/orders"]),
        "expired": foreign(authority, begins=-2 * DAY, ends=-DAY),
        "not yet valid": foreign(authority, begins=DAY, ends=2 * DAY),
        "for servers": foreign(authority, begins=-DAY, ends=DAY, server=True),
    }
    async with serving(app, tls=tls(authority)) as address:
        outcomes = {name: await whisper(authority, address, shown, door) for name, shown in refused.items()}
        assert outcomes == dict.fromkeys(refused, "UNAVAILABLE")
        for names, outcome in (
            (["spiffe://shop/orders"], "OK"),
            (["porter.shop"], "OK"),
            (["spiffe://shop/payments"], "PERMISSION_DENIED"),
            (["porter.shop", "spiffe://shop/payments"], "PERMISSION_DENIED"),
            (["127.0.0.1"], "UNAUTHENTICATED"),
            (["*.shop"], "UNAUTHENTICATED"),
        ):
            assert await whisper(authority, address, issued(authority, "client", names), door) == outcome, names
        assert await whisper(authority, address, foreign(authority, begins=-DAY, ends=DAY), door) == "OK"


async def test_an_authority_between_must_be_good_too(tmp_path: Path, app: App) -> None:
    """Under an authority that signs others, one between counts while it is good, and no longer."""
    certs = tmp_path / "certs"
    new_authority(certs)
    issue(certs, "server", ["localhost"])
    key = serialization.load_pem_private_key((certs / "authority.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.load_pem_x509_certificate((certs / "authority.pem").read_bytes()).subject
    whole = (
        built("Interlock local authority", name, key, -DAY, DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (certs / "authority.pem").write_bytes(whole.public_bytes(serialization.Encoding.PEM))
    async with serving(app, tls=tls(certs)) as address:
        for through, outcome in (((-DAY, DAY), "OK"), ((-2 * DAY, -DAY), "UNAVAILABLE")):
            shown = foreign(certs, begins=-DAY, ends=DAY, through=through)
            assert await whisper(certs, address, shown) == outcome, through


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:ssl.PROTOCOL:DeprecationWarning")
async def test_old_tls_and_weak_ciphers_are_refused(authority: Path, app: App) -> None:
    """TLS 1.2 and 1.3 with forward secrecy and authenticated encryption; nothing else is agreed on."""
    issue(authority, "client", ["porter.shop"])

    def agreed(port: int, *, newest: ssl.TLSVersion, ciphers: str = "DEFAULT@SECLEVEL=0") -> str:
        context = ssl.create_default_context(cafile=str(authority / "authority.pem"))
        context.load_cert_chain(authority / "client.pem", authority / "client.key")
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = newest
        context.set_ciphers(ciphers)
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secured,
            ):
                return f"{secured.version()} {(secured.cipher() or ('',))[0]}"
        except (ssl.SSLError, ConnectionError):
            return "refused"

    async with serving(app, tls=tls(authority)) as address:

        async def ask(newest: ssl.TLSVersion, ciphers: str = "DEFAULT@SECLEVEL=0") -> str:
            return await asyncio.to_thread(agreed, address.port, newest=newest, ciphers=ciphers)

        assert (await ask(ssl.TLSVersion.MAXIMUM_SUPPORTED)).startswith("TLSv1.3 ")
        modern = await ask(ssl.TLSVersion.TLSv1_2)
        assert modern.startswith("TLSv1.2 ECDHE-")
        assert "GCM" in modern or "CHACHA20" in modern
        assert await ask(ssl.TLSVersion.TLSv1_1) == "refused"
        for weak in ("AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES256-GCM-SHA384", "NULL@SECLEVEL=0"):
            assert await ask(ssl.TLSVersion.TLSv1_2, weak) == "refused", weak


def serves(certs: Path, port: int) -> bool:
    """Tell whether the certificate that is served is the one on disk."""
    context = ssl.create_default_context(cafile=str(certs / "authority.pem"))
    context.load_cert_chain(certs / "client.pem", certs / "client.key")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    return shown == ssl.PEM_cert_to_DER_cert((certs / "server.pem").read_text())


async def test_certificates_rotate_under_load(tmp_path: Path) -> None:
    """The server's certificate changes again and again while clients call: no good call is refused."""
    certs = tmp_path / "certs"
    new_authority(certs)
    issue(certs, "server", ["localhost"])
    client = issued(certs, "client", ["porter.shop"])
    app = guarded(tmp_path, tls_poll="100ms")
    async with serving(app, tls=tls(certs)) as address, channel_to(certs, address, client) as channel:
        kept = channel.unary_unary("/sample.v1.SampleService/Whisper", EchoRequest.to_binary, EchoResponse.from_binary)

        async def on_one_connection() -> str:
            await kept(EchoRequest(text="hush"), timeout=20)
            return "OK"

        callers = {"fresh connections": lambda: whisper(certs, address, client), "one": on_one_connection}
        async with calling(callers) as load:
            for _ in range(3):
                await load.more(3)
                issue(certs, "server", ["localhost"])
                await until(lambda: asyncio.to_thread(serves, certs, address.port), 30)
            await load.more(3)


async def test_client_authorities_rotate_under_load(tmp_path: Path) -> None:
    """Two authorities side by side, then the new one alone: no good call is refused, and the old one's end."""
    old, new = tmp_path / "old", tmp_path / "new"
    new_authority(old)
    new_authority(new)
    issue(old, "server", ["localhost"])
    former, later = issued(old, "client", ["porter.shop"]), issued(new, "client", ["porter.shop"])
    bundle = tmp_path / "authorities.pem"

    def believe(*directories: Path) -> None:
        fresh = bundle.with_suffix(".new")
        fresh.write_bytes(b"".join((each / "authority.pem").read_bytes() for each in directories))
        fresh.replace(bundle)

    believe(old)
    app = guarded(tmp_path, tls_poll="100ms")
    files = Tls(certificate=old / "server.pem", key=old / "server.key", client_authorities=bundle)
    shown = former
    async with serving(app, tls=files) as address:

        async def outcome(identity: Identity) -> str:
            return await whisper(old, address, identity)

        async def in_force(identity: Identity, wanted: str) -> bool:  # the former listener accepts a moment longer
            return {await outcome(identity) for _ in range(20)} == {wanted}

        assert await outcome(later) == "UNAVAILABLE"
        async with calling({f"client {number}": lambda: outcome(shown) for number in range(2)}) as load:
            await load.more(3)
            believe(old, new)
            await until(lambda: in_force(later, "OK"), 60)
            await load.more(3)
            shown = later
            await load.more(2)  # no call with the former one is under way
            believe(new)
            await until(lambda: in_force(former, "UNAVAILABLE"), 60)
            await load.more(3)
