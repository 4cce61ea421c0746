"""Makes a new service: a few files from templates, and the code generated from its contract."""

import json
import keyword
import re
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from interlock.contract.generate import generate
from interlock.contract.project import read_project

TEMPLATES = Path(__file__).parent / "templates"
FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "Makefile.txt": "Makefile",
    "README.md.txt": "README.md",
    "gitignore.txt": ".gitignore",
    "contract.proto.txt": "contracts/api/{name}/v1/{name}.proto",
    "package.py.txt": "src/{name}/__init__.py",
    "greetings.py.txt": "src/{name}/greetings.py",
    "service.py.txt": "src/{name}/service.py",
    "test_service.py.txt": "tests/test_service.py",
}
TAKEN = frozenset({"interlock", "google", "grpc", "protobuf", "protovalidate", "buf", "pytest", "tests"})


class CannotMake(Exception):
    """The service cannot be made; nothing was written."""


def scaffold(name: str, parent: Path) -> Path:
    """Make the service `name` in a new directory below `parent`; return the directory."""
    if problem := _name_problem(name):
        raise CannotMake(f"{name!r} {problem}")
    directory = parent / name
    if directory.exists():
        raise CannotMake(f"{directory} exists already; nothing is overwritten")
    if not parent.is_dir():
        raise CannotMake(f"{parent} is no directory")
    values = {"{name}": name, "{requirement}": requirement()}
    for template, target in FILES.items():
        path = directory / target.replace("{name}", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_filled((TEMPLATES / template).read_text(), values))
    generate(read_project(directory))
    return directory


def requirement() -> str:
    """Return how a project requires this Interlock: by its source tree where it comes from one, else by version."""
    source = Path(__file__).resolve().parents[3]
    if source.name != "site-packages" and (source / "pyproject.toml").exists():
        return f"interlock @ {source.as_uri()}"
    try:
        installed = distribution("interlock")
    except PackageNotFoundError:
        return "interlock"
    url = str(json.loads(installed.read_text("direct_url.json") or "{}").get("url", ""))
    return f"interlock @ {url}" if url.startswith("file:") else f"interlock>={installed.version}"


def _filled(text: str, values: dict[str, str]) -> str:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text


def _name_problem(name: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return "is no name for a service: write lower-case letters, digits and _, a letter first"
    if keyword.iskeyword(name):
        return "is a keyword of Python: choose another name"
    if name in sys.stdlib_module_names:
        return "is a module of Python's own library: choose another name"
    if name in TAKEN:
        return "is the name of a package that the service uses: choose another name"
    return ""
