"""The house's import table, held against every import in it."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "interlock"

# Rooms from the ground up; a room may import itself and every row below its own.
ROWS = (
    ("errors", "deadline", "metadata", "stamps", "url"),
    ("contract",),
    ("call",),
    ("listing",),
    ("data",),
    ("protocols", "events", "resilience", "security", "observability", "explorer"),
    (
        "app",
        "assembly",
        "blocking",
        "messaging",
        "client",
        "outbound",
        "defaults",
        "handlers",
        "operations",
        "masks",
        "pages",
        "settings",
        "server",
    ),
    ("platform", "standards", "guide", "sdk", "bench", "deploy", "doctor", "console", "testing"),
    ("cli",),
)

# Edges between neighbours of one row, each with its reason.
NEIGHBOURS = {
    ("app", "assembly"): "an app is made of its parts",
    ("app", "messaging"): "an app has events",
    ("app", "defaults"): "an app's chains are the stacks",
    ("assembly", "defaults"): "the parts are what the stacks take",
    ("assembly", "settings"): "the parts are built from the settings, a type here",
    ("messaging", "defaults"): "the chains of consumed events are a stack",
    ("app", "handlers"): "an app binds its handlers",
    ("app", "operations"): "an app has a port for operators",
    ("operations", "pages"): "probes are pages, on both ports",
    ("app", "pages"): "an app answers probes and shows its documents",
    ("app", "settings"): "an app reads its limits where none are handed in",
    ("client", "defaults"): "a client's chains are the stacks",
    ("client", "app"): "the type of an in-process target, for type checkers only",
    ("outbound", "defaults"): "its chain is a stack",
    ("settings", "outbound"): "what is set of third parties is what its client takes",
    ("blocking", "client"): "the twin wraps a client",
    ("deploy", "platform"): "what is deployed is a platform's services and its gateway",
    ("security", "resilience"): "failures of one address are counted as its requests are",
    ("server", "settings"): "the runner reads ports, workers and limits",
    ("testing", "platform"): "the test kit runs whole platforms",
}

# Third-party libraries have one home; exceptions are named.
HOMES = {
    "grpc": {"protocols"},
    "httpx2": {"testing", "protocols", "security", "outbound", "doctor"},
    "h2": {"protocols"},  # full duplex, which httpx2 has not
    "opentelemetry": {"observability"},
    "prometheus_client": {"observability"},
    "structlog": {"observability"},
    "joserfc": {"security"},
    "nats": {"events"},
    "redis": {"resilience"},
    "aio_pika": {"events"},
    "sqlalchemy": {"data"},
    "h2corn": {"server"},
    "uvloop": {"server"},
    "watchfiles": {"server", "cli"},  # a worker reloads, `interlock generate --watch` regenerates
    "pydantic": {"settings", "server", "cli"},  # settings are read there, and their mistakes are told there
    "pydantic_settings": {"settings", "server", "cli"},
    "typer": {"cli"},
    "rich": {"cli"},
    "yaml": {"deploy", "security"},  # manifests are written, roles files read
    "google": {"contract"},
    "brotli": {"protocols"},
    "zstandard": {"protocols"},
}
# The contract validates, and generated code names the rules' module.
HOMES["protovalidate"] = {"contract", "protocols", "defaults", "assembly"}


def room_of(module: str) -> str:
    """Return the room that a module of the package belongs to; the package itself is none."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path: Path) -> list[str]:
    """Return the modules that a file imports, at whatever depth."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "interlock":
                found += [f"interlock.{alias.name}" for alias in node.names]
            else:
                found.append(node.module)
    return found


def modules() -> list[Path]:
    """Return the hand-written files of the package."""
    return [path for path in sorted(SOURCE.rglob("*.py")) if "gen" not in path.relative_to(SOURCE).parts]


ROW = {room: number for number, row in enumerate(ROWS) for room in row}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_follow_the_table(path: Path) -> None:
    """A file imports its own room, the rows below, and the neighbours that the table names."""
    module = ".".join(("interlock", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")
    room = room_of(module)
    if not room:
        return  # the package's own __init__ names the public API, each name in its home
    assert room in ROW, f"{room} has no place in the table"
    wrong = []
    for imported in imports(path):
        top = imported.split(".")[0]
        if top == "interlock":
            other = room_of(imported)
            allowed = not other or other == room or ROW[other] < ROW[room] or (room, other) in NEIGHBOURS
            if other.startswith("__"):  # facts of the package itself, such as its version
                allowed = True
        else:
            allowed = room in HOMES.get(top, {room})
        if not allowed:
            wrong.append(imported)
    assert not wrong, f"{module} must not import {', '.join(wrong)}"


def test_every_neighbour_edge_is_used() -> None:
    """An edge that nobody uses any more leaves the table."""
    used = set()
    for path in modules():
        room = room_of("interlock." + ".".join(path.relative_to(SOURCE).with_suffix("").parts))
        used |= {(room, room_of(each)) for each in imports(path) if each.startswith("interlock.")}
    assert not NEIGHBOURS.keys() - used
