"""Identity from client certificates: SPIFFE URI, DNS name, or nobody."""

import datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from interlock.call import Call, Peer, Reply, compose
from interlock.errors import Unauthenticated
from interlock.metadata import Metadata
from interlock.security.authenticate import REFUSED, authenticate
from interlock.security.mutual_tls import CertificateIdentities
from interlock.security.refused import CredentialRefused
from tests.sample.gen.sample.v1.sample_pb import EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, WHISPER

WHISPERING = SAMPLE_SERVICE.operation(WHISPER)
ROLES = {"spiffe://shop/orders": frozenset(["clerk"]), "orders.shop": frozenset(["porter"])}


def certificate(*names: x509.GeneralName) -> str:
    """Return a certificate with those names as SAN; the TLS layer has checked who signed it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orders.shop")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


SPIFFE = x509.UniformResourceIdentifier("spiffe://shop/orders")
WEB = x509.UniformResourceIdentifier("https://orders.shop")
NAME = x509.DNSName("orders.shop")


@pytest.mark.parametrize(
    "names, subject, roles",
    [
        ((NAME,), "orders.shop", {"porter"}),
        ((SPIFFE,), "spiffe://shop/orders", {"clerk"}),
        ((NAME, WEB, SPIFFE), "spiffe://shop/orders", {"clerk"}),
        ((WEB, x509.DNSName("other.shop"), NAME), "other.shop", set()),
        ((x509.DNSName("*.shop"), NAME), "orders.shop", {"porter"}),
    ],
)
def test_a_certificate_names_its_service(names: list[x509.GeneralName], subject: str, roles: set[str]) -> None:
    """The SPIFFE URI counts before DNS names; roles come from the table, none for a name that is not in it."""
    found = CertificateIdentities(ROLES).principal(certificate(*names))
    assert (found.subject, found.issuer, found.roles) == (subject, "mutual-tls", frozenset(roles))
    assert found.credential == ""


@pytest.mark.parametrize(
    "pem",
    [
        certificate(),
        certificate(WEB),
        certificate(SPIFFE, x509.UniformResourceIdentifier("spiffe://shop/payments")),
        certificate(x509.DNSName("*.shop")),
        certificate(x509.DNSName("orders.shop\0.evil.example")),
        certificate(x509.DNSName("a\nb")),
        certificate(x509.UniformResourceIdentifier("spiffe://shop/orders\r\nforged: line"), NAME),
        certificate(x509.DNSName("a" * 300)),
        "text",
    ],
    ids=[
        "no SAN",
        "another URI",
        "two SPIFFE URIs",
        "wildcard",
        "null byte",
        "line end",
        "URI of two lines",
        "long",
        "no certificate",
    ],
)
def test_a_certificate_may_name_nobody(pem: str) -> None:
    """Without one clear name there is no identity; the common name does not count."""
    with pytest.raises(CredentialRefused, match="SPIFFE URI"):
        CertificateIdentities(ROLES).principal(pem)


def test_an_expired_certificate_counts_no_more() -> None:
    """A connection may outlive its certificate; the identity does not."""
    at = datetime.datetime.now(datetime.UTC).timestamp()
    clock = [at]
    identities = CertificateIdentities(ROLES, now=lambda: clock[0])
    pem = certificate(NAME)
    assert identities.principal(pem) is identities.principal(pem)
    clock[0] = at + 2 * 24 * 3600
    with pytest.raises(CredentialRefused, match="expired"):
        identities.principal(pem)


def test_certificates_are_remembered_within_bounds() -> None:
    """Only so many are kept, the newest."""
    identities = CertificateIdentities(ROLES, most=2)
    pems = [certificate(NAME) for _ in range(3)]
    found = [identities.principal(pem) for pem in pems]
    assert identities.principal(pems[2]) is found[2]
    assert identities.principal(pems[0]) is not found[0]


async def answer(_call: Call) -> Reply:
    return EchoResponse()


def peer_with(*pems: str) -> Peer:
    return Peer({"extensions": {"tls": {"client_cert_chain": pems}}})


async def test_a_certificate_stands_in_for_a_token() -> None:
    """With mutual TLS on, a call without a token is its certificate's; one with a token is not."""
    authority = trustme.CA()
    leaf = authority.issue_cert("orders.shop")
    pem = leaf.cert_chain_pems[0].bytes().decode()
    handler = compose([authenticate(None, CertificateIdentities(ROLES))], WHISPERING, answer)
    call = Call(WHISPERING, peer=peer_with(pem))
    await handler(call)
    assert call.principal is not None
    assert call.principal.subject == "orders.shop"
    with_token = Call(WHISPERING, Metadata([("authorization", "Bearer x")]), peer=peer_with(pem))
    for refused in (with_token, Call(WHISPERING)):
        with pytest.raises(Unauthenticated) as raised:
            await handler(refused)
        assert raised.value.message == REFUSED


async def test_certificates_count_only_where_they_are_asked_for() -> None:
    """With mutual TLS off a certificate says nothing."""
    with pytest.raises(Unauthenticated):
        await compose([authenticate(None)], WHISPERING, answer)(Call(WHISPERING, peer=peer_with(certificate(NAME))))
