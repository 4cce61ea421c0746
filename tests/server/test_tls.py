"""TLS: who is let in, and certificates that change while the server serves."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from grpc import aio

from interlock import App
from interlock.server import Address, StartError, Tls, serving
from interlock.settings import Settings
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse, SlowRequest, SlowResponse
from tests.server.apps import Answering, make
from tests.server.processes import serving_process
from tests.waiting import until

MAKE = "tests.server.apps:make"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom both ends trust."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Tls:
    """Certificate and key on disk."""
    tls = Tls(certificate=tmp_path / "tls.crt", key=tmp_path / "tls.key")
    write(tls, authority.issue_cert("localhost", "127.0.0.1"))
    return tls


@pytest.fixture
def quick_app() -> App:
    """An app that looks at its certificates often."""
    return App(Answering(), settings=Settings(tls_poll=0.1))


def write(tls: Tls, leaf: trustme.LeafCert) -> None:
    """Put a certificate and its key in place, each at once."""
    for path, content in (
        (tls.certificate, b"".join(each.bytes() for each in leaf.cert_chain_pems)),
        (tls.key, leaf.private_key_pem.bytes()),
    ):
        temporary = path.with_suffix(".new")
        temporary.write_bytes(content)
        temporary.rename(path)


def serial(leaf: trustme.LeafCert) -> int:
    """Return a certificate's serial number."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def shown(authority: trustme.CA, port: int) -> int:
    """Return the serial number of the certificate that a new connection sees."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        certificate = secured.getpeercert()
        assert certificate
        return int(str(certificate["serialNumber"]), 16)


async def shows(authority: trustme.CA, port: int, leaf: trustme.LeafCert) -> None:
    """Wait until new connections see this certificate."""
    async with asyncio.timeout(3):
        while await asyncio.to_thread(shown, authority, port) != serial(leaf):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def channel_to(
    authority: trustme.CA, address: Address | str, client: trustme.LeafCert | None = None
) -> AsyncIterator[aio.Channel]:
    """Open a gRPC channel with TLS, and a client certificate if there is one."""
    credentials = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(),
        client.private_key_pem.bytes() if client else None,
        b"".join(each.bytes() for each in client.cert_chain_pems) if client else None,
    )
    async with aio.secure_channel(str(address).replace("127.0.0.1", "localhost"), credentials) as channel:
        yield channel


def echo_on(channel: aio.Channel) -> Any:
    """Return a callable for Echo."""
    return channel.unary_unary("/sample.v1.SampleService/Echo", EchoRequest.to_binary, EchoResponse.from_binary)


async def test_grpc_and_rest_are_served_with_tls(files: Tls, authority: trustme.CA, tmp_path: Path) -> None:
    """With a certificate in the settings, the API port speaks TLS and the banner says https."""
    with serving_process(
        tmp_path, MAKE, "--tls-certificate", str(files.certificate), "--tls-key", str(files.key)
    ) as process:
        await process.ready()
        assert f"https://127.0.0.1:{process.port}" in process.output
        async with channel_to(authority, f"localhost:{process.port}") as channel:
            assert (await echo_on(channel)(EchoRequest(text="hello"))).text == "hello"
        assert await process.probe("/readyz") == 200


async def test_mutual_tls_lets_in_certificates_of_the_authorities_only(
    files: Tls, authority: trustme.CA, tmp_path: Path
) -> None:
    """A client with a certificate of the authorities is served; one without, or with another's, is not."""
    authorities = tmp_path / "clients.pem"
    clients = trustme.CA()
    clients.cert_pem.write_to_path(str(authorities))
    mutual = Tls(certificate=files.certificate, key=files.key, client_authorities=authorities)
    async with serving(make(), tls=mutual) as address:
        async with channel_to(authority, address, clients.issue_cert("client")) as channel:
            assert (await echo_on(channel)(EchoRequest(text="hello"))).text == "hello"
        for stranger in (None, trustme.CA().issue_cert("client")):
            async with channel_to(authority, address, stranger) as channel:
                with pytest.raises(aio.AioRpcError) as refused:
                    await echo_on(channel)(EchoRequest())
                assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_new_certificate_is_taken_over_without_a_failed_call(
    files: Tls, authority: trustme.CA, quick_app: App
) -> None:
    """New connections see the new certificate soon, a long call over the change finishes, and no call fails."""
    async with (
        serving(quick_app, tls=files) as address,
        channel_to(authority, address) as channel,
        channel_to(authority, address) as other,
    ):
        echo, over, count = echo_on(channel), False, 0
        slow = other.unary_unary("/sample.v1.SampleService/Slow", SlowRequest.to_binary, SlowResponse.from_binary)

        async def ask() -> None:
            nonlocal count
            while not over:
                await echo(EchoRequest(text="x"))
                count += 1

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        long_call = asyncio.ensure_future(slow(SlowRequest(seconds=2.0)))
        await asyncio.sleep(0.2)
        for _ in range(3):
            fresh = authority.issue_cert("localhost", "127.0.0.1")
            write(files, fresh)
            await shows(authority, address.port, fresh)
        await long_call
        over = True
        await asyncio.gather(*asking)
        assert count > 100


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_every_worker_follows_a_swapped_link(authority: trustme.CA, tmp_path: Path, workers: str) -> None:
    """A directory swapped by a symbolic link, as Kubernetes does, changes the certificate in all workers."""
    leaves = [authority.issue_cert("localhost", "127.0.0.1") for _ in range(2)]
    for number, leaf in enumerate(leaves):
        directory = tmp_path / str(number)
        directory.mkdir()
        write(Tls(certificate=directory / "tls.crt", key=directory / "tls.key"), leaf)
    current = tmp_path / "current"
    current.symlink_to("0")
    with serving_process(
        tmp_path,
        MAKE,
        workers=workers,
        tls_certificate=str(current / "tls.crt"),
        tls_key=str(current / "tls.key"),
        tls_poll="100ms",
    ) as process:
        await process.ready()
        assert await asyncio.to_thread(shown, authority, process.port) == serial(leaves[0])
        (tmp_path / "next").symlink_to("1")
        (tmp_path / "next").rename(current)
        await process.says("the new TLS certificate is in use", times=int(workers))
        seen = {await asyncio.to_thread(shown, authority, process.port) for _ in range(10)}
        assert seen == {serial(leaves[1])}


@pytest.mark.parametrize("broken", ["not PEM", "another key", "gone"])
async def test_a_broken_new_certificate_is_told_once_and_not_used(
    files: Tls, authority: trustme.CA, quick_app: App, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    """The old certificate serves on, one error says why, and a sound certificate later is taken over."""
    async with serving(quick_app, tls=files) as address:
        before = await asyncio.to_thread(shown, authority, address.port)
        if broken == "not PEM":
            files.certificate.write_text("nothing of the kind")
        elif broken == "another key":
            files.key.write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
        else:
            files.key.unlink()
        await until(lambda: "was not replaced" in caplog.text)
        await asyncio.sleep(0.5)
        assert caplog.text.count("was not replaced") == 1
        assert await asyncio.to_thread(shown, authority, address.port) == before
        fresh = authority.issue_cert("localhost", "127.0.0.1")
        write(files, fresh)
        await shows(authority, address.port, fresh)


async def test_certificates_that_do_not_serve_are_refused_at_the_start(files: Tls, authority: trustme.CA) -> None:
    """A missing file is named with its setting, a key of another certificate is told as such."""
    files.key.rename(files.key.with_suffix(".away"))
    with pytest.raises(StartError, match="INTERLOCK_TLS_KEY"):
        async with serving(make(), tls=files):
            pass
    files.key.write_bytes(authority.issue_cert("localhost").private_key_pem.bytes())
    with pytest.raises(StartError, match="KeyMismatch"):
        async with serving(make(), tls=files):
            pass
