"""Who asks: keys, roles and a token made for the run, so that our server authenticates and permits every call."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TOKEN = "BENCH_TOKEN"


@contextmanager
def known() -> Iterator[None]:
    """Put keys, roles and a token into the environment of everything that is started in the block."""
    from interlock.security.keys import new_keys  # noqa: PLC0415 - the measured processes read the environment only
    from interlock.security.tokens import Issuer  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        roles = directory / "roles.toml"
        roles.write_text('[roles]\nreader = ["orders:read"]\n')
        token = Issuer(keys=new_keys(directory / "keys")).mint("bench", ["reader"])
        changed = {"INTERLOCK_KEYS": str(directory / "keys"), "INTERLOCK_ROLES": str(roles), TOKEN: token}
        before = {key: os.environ.get(key) for key in changed}
        os.environ.update(changed)
        try:
            yield
        finally:
            for key, value in before.items():
                os.environ.pop(key)
                if value is not None:
                    os.environ[key] = value


def authorization() -> str:
    """Return the value of the header that shows the token."""
    return f"Bearer {os.environ[TOKEN]}"
