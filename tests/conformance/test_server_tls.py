"""TLS Client Certs, by the suite's name: a call with a certificate is answered, one without reaches nobody."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from interlock import Code
from interlock.server import Tls, serving
from tests.conformance.calling import DIALECTS, REPLY, SENT, Caller, answer, requests_of
from tests.conformance.dialects import Dialect
from tests.conformance.service import make

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who signs both sides."""
    return trustme.CA()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def caller(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Caller]:
    """The service where every client must show a certificate, and who shows one."""
    home: Path = tmp_path_factory.mktemp("tls")
    server, client = authority.issue_cert("localhost"), authority.issue_cert("conformance.example")
    (home / "cert.pem").write_bytes(b"".join(each.bytes() for each in server.cert_chain_pems))
    (home / "key.pem").write_bytes(server.private_key_pem.bytes())
    (home / "ca.pem").write_bytes(authority.cert_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    client.configure_cert(context)
    identity = Tls(certificate=home / "cert.pem", key=home / "key.pem", client_authorities=home / "ca.pem")
    async with serving(make(), tls=identity) as address:
        yield Caller(address, context)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda each: f"TLS Client Certs/client-stream/{each}")
async def test_client_certificate(caller: Caller, dialect: Dialect) -> None:
    """A caller with a certificate is served."""
    asked = requests_of("client-stream", answer(REPLY, headers=["foo"], trailers=["bing"]))
    came = await caller.call(dialect, "client-stream", asked, headers=SENT)
    assert (came.code, [each.data for each in came.messages]) == (Code.OK, [REPLY])
    assert (came.headers["x-custom-header"], came.trailers["x-custom-trailer"]) == (["foo"], ["bing"])


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
async def test_no_certificate(caller: Caller, authority: trustme.CA, dialect: Dialect) -> None:
    """A caller without one is refused by TLS itself."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    nobody = Caller(caller.address, context)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await nobody.call(dialect, "client-stream", requests_of("client-stream", answer(REPLY)))
