"""Keys for the tests: made once, for an RSA key takes its time."""

from pathlib import Path

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
