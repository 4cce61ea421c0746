"""The environment in which services under test read their settings: all they keep lies below one directory."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from interlock.testing.keyring import Keyring

PREFIX = "INTERLOCK_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """A directory for databases and broker, and the keys that services verify tokens with.

    Services under test read from the environment: `keys`, `broker` (embedded, in the directory) and `database_url`
    (a SQLite file there, `{name}` standing for the service), for those that have such a field; what a test gives by
    name goes on top, and all else is as outside.
    """

    directory: Path
    keys: Keyring

    def variables(self, settings: Mapping[str, object]) -> dict[str, str]:
        """Return the environment's variables for these settings."""
        chosen: dict[str, object] = {
            "keys": self.keys.directory,
            "broker": f"embedded:{self.directory}/broker.db",
            "database_url": f"sqlite:///{self.directory}/{{name}}.db",
            **settings,
        }
        return {PREFIX + name.upper(): _text(value) for name, value in chosen.items()}

    @contextmanager
    def around(self, settings: Mapping[str, object]) -> Iterator[None]:
        """Have them in the environment while the block runs."""
        values = self.variables(settings)
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
