"""The RabbitMQ server that tests use: at INTERLOCK_TEST_RABBITMQ, or on this machine; or a node of their own."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from interlock.stamps import uuid7
from interlock.testing.servers import NoServer, ServerProcess, answers, free_port

PLACE = ("127.0.0.1", 5672)

VANISHES = 300
"""Seconds after which the server removes what a test left there."""

_DEBIAN = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # behind the one of the PATH, which changes the user

_CONFIGURATION = """
log.console = true
log.console.level = warning
log.file = false
raft.wal_max_size_bytes = 16777216
"""


def rabbitmq_server() -> str:
    """Return a URL with names of its own, which vanish some minutes after the test; NoServer tells how to start one."""
    if find_spec("aio_pika") is None:
        raise NoServer("`pip install interlock[rabbitmq]`")
    url = os.environ.get("INTERLOCK_TEST_RABBITMQ", "")
    if not url and answers(*PLACE):
        url = f"amqp://guest:guest@{PLACE[0]}:{PLACE[1]}/"
    if not url:
        raise NoServer(
            "start `rabbitmq-server`, or a container of rabbitmq with port 5672, "
            "or set INTERLOCK_TEST_RABBITMQ=amqp://user:password@host:5672/"
        )
    return f"{url}?name=t{uuid7()}&expires={VANISHES}"


@contextmanager
def rabbitmq_process(directory: Path) -> Iterator[ServerProcess]:
    """Run a node of the RabbitMQ that is installed here, which can be killed and started again; it knows no other.

    It stores below `directory`, and has names, ports and an Erlang port mapper of its own. NoServer where none is
    installed.
    """
    node = str(_DEBIAN) if _DEBIAN.exists() else shutil.which("rabbitmq-server")
    mapper = shutil.which("epmd")
    if node is None or mapper is None:
        raise NoServer("no RabbitMQ to start: on Debian `apt-get install rabbitmq-server` brings one")
    port, mapper_port = free_port(), free_port()
    (directory / "rabbitmq.conf").write_text(_CONFIGURATION)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "LANG": "C.UTF-8",
        "HOME": str(directory),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"interlock{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_SERVER_START_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_LOGS": "-",
    } | {f"RABBITMQ_{name}": str(directory / file) for name, file in _FILES.items()}
    port_mapper = ServerProcess(
        "Erlang port mapper",
        [mapper, "-address", "127.0.0.1", "-port", str(mapper_port)],
        url="",
        port=mapper_port,
        log=directory / "epmd.log",
        environment=environment,
    )
    server = ServerProcess(
        "RabbitMQ",
        [node],
        url=f"amqp://guest:guest@127.0.0.1:{port}/",
        port=port,
        log=directory / "rabbitmq-server.log",
        environment=environment,
        ending=signal.SIGKILL,
    )
    try:
        port_mapper.start()
        server.start()
        yield server
    finally:
        server.stop()
        port_mapper.stop()


_FILES = {
    "CONFIG_FILE": "rabbitmq.conf",
    "ADVANCED_CONFIG_FILE": "advanced.config",
    "CONF_ENV_FILE": "rabbitmq-env.conf",
    "MNESIA_BASE": "mnesia",
    "LOG_BASE": "log",
    "ENABLED_PLUGINS_FILE": "plugins",
    "GENERATED_CONFIG_DIR": "generated",
    "FEATURE_FLAGS_FILE": "feature_flags",
    "PID_FILE": "pid",
}
