"""The audit log: written whatever the log level is, by the process as it is set up, in either form."""

import json
import logging
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog

from interlock.observability.logging import configure_logging, set_log_level
from interlock.operations import Operations
from interlock.security.access import roles_from
from interlock.security.keys import KeySet
from interlock.security.tokens import Issuer
from interlock.settings import Settings
from tests.sample.handlers import make
from tests.security.asking import PROTOCOLS, ask

ROLES = roles_from({"whisperer": ["sample:whisper"], "idle": []}, privileged=["sample:whisper"])


@pytest.fixture
def stream() -> Iterator[StringIO]:
    """Where the process logs to, at the highest level; as before after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    configure_logging("error", "json", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_it_does_not_depend_on_the_level(protocol: str, stream: StringIO, directory: Path, keys: KeySet) -> None:
    """A privileged call and a refused one are a line each at `error`; other lines of their levels are not written."""
    app = make(settings=Settings(keys=directory, log_level="error"), roles=ROLES, access_log=False)
    for role, code in (("whisperer", "OK"), ("idle", "PERMISSION_DENIED")):
        token = Issuer(keys=keys).mint("ada", [role])
        assert (await ask(app, protocol, [("authorization", f"Bearer {token}")])).code == code
    assert (await ask(app, protocol)).code == "UNAUTHENTICATED"
    set_log_level("warning")
    logging.getLogger("interlock.security").info("not written")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["audit"] for line in lines] == ["privileged", "refused", "refused"]
    assert [line.get("principal") for line in lines] == ["ada", "ada", None]
    assert all(line["operation"] == "/sample.v1.SampleService/Whisper" for line in lines)


async def test_operators_are_audited(stream: StringIO, directory: Path) -> None:
    """Who is refused at /admin, and who changes the process there; who only looks leaves no line."""
    port = make(settings=Settings(keys=directory), roles=ROLES)._operations_port
    assert isinstance(port, Operations)

    async def request(method: str, path: str, host: str) -> int:
        events: list[dict[str, int]] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b'{"level": "error"}'}

        async def send(event: dict[str, int]) -> None:
            events.append(event)

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": (host, 1)}
        await port(scope, receive, send)  # type: ignore[arg-type]
        return events[0]["status"]

    assert await request("GET", "/admin", "127.0.0.1") == 200
    assert await request("PUT", "/admin/log-level", "127.0.0.1") == 200
    assert await request("PUT", "/admin/\x1b[31m\nforged", "192.0.2.7") == 403
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    told = [(line["audit"], line["operation"], line["address"]) for line in found if "audit" in line]
    assert told == [
        ("privileged", "PUT /admin/log-level", "127.0.0.1:1"),
        ("refused", "PUT /admin/?[31m?forged", "192.0.2.7:1"),
    ]


def test_readable_tracebacks_show_no_values(stream: StringIO) -> None:
    """A log for people tells where it failed, not what the variables held, of which one may be a token."""
    readable = StringIO()
    configure_logging("error", "pretty", readable)
    try:
        token = "-".join(("planted", "in", "a", "variable"))  # so that the source has not the whole of it
        raise KeyError(len(token))  # noqa: TRY301 - its traceback is what is looked at
    except KeyError:
        logging.getLogger("somebody").exception("failed")
    assert "KeyError" in readable.getvalue()
    assert "planted-in" not in readable.getvalue()
    assert "\x1b" not in readable.getvalue()
    assert not stream.getvalue()
