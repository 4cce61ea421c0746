"""Keys for the tests, made once, for an RSA key takes its time; and AWS Secrets Manager on this machine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock.security.keys import KeySet, new_keys


@pytest.fixture(scope="session")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of keys that tests only read."""
    path = tmp_path_factory.mktemp("security") / "keys"
    new_keys(path)
    return path


@pytest.fixture(scope="session")
def keys(directory: Path) -> KeySet:
    """The keys in `directory`."""
    from interlock.security.keys import load_keys

    return load_keys(directory)


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    """Keys that no verifier knows."""
    return new_keys(tmp_path_factory.mktemp("strangers") / "keys")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """AWS Secrets Manager, moto's, on a port of its own; gives a client of it."""
    boto3 = pytest.importorskip("boto3", reason="boto3 is missing: install interlock[aws]")
    from moto.server import ThreadedMotoServer

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ):
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client = boto3.client("secretsmanager", endpoint_url=endpoint)
    client.endpoint = endpoint
    try:
        yield client
    finally:
        client.close()
        server.stop()
