"""The project's part of the configuration: where its contracts are, and where generated code goes."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from interlock.contract.names import nearest

KEYS = ("contracts", "output")


class ProjectError(Exception):
    """The project's configuration is missing or wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A directory with contracts, and with the package that is generated from them; the paths are absolute."""

    root: Path
    contracts: Path
    output: Path

    def shown(self, path: Path) -> str:
        """Return `path` as people know it: from the project's root, where it lies below it."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)


def read_project(directory: Path) -> Project:
    """Read `[tool.interlock]` of the pyproject.toml in `directory`."""
    path = directory / "pyproject.toml"
    if path.exists() and (found := _table(path)) is not None:
        return _project(directory.resolve(), path, found)
    raise ProjectError(
        f"{directory.resolve()} is no project: it has no pyproject.toml with a [tool.interlock]; "
        f"`interlock init NAME` makes a new one"
    )


def _table(path: Path) -> Mapping[str, object] | None:
    try:
        tool = tomllib.loads(path.read_text()).get("tool")
    except tomllib.TOMLDecodeError as error:
        raise ProjectError(f"{path}: {error}") from error
    found = tool.get("interlock") if isinstance(tool, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _project(root: Path, path: Path, table: Mapping[str, object]) -> Project:
    if unknown := sorted(table.keys() - set(KEYS)):
        raise ProjectError(f"{path}: [tool.interlock] knows no {unknown[0]!r}{nearest(unknown[0], KEYS)}")
    directories = {}
    for key in KEYS:
        value = table.get(key, "contracts" if key == "contracts" else None)
        if not isinstance(value, str) or not value:
            raise ProjectError(f'{path}: [tool.interlock] needs `{key}`, a directory ({key} = "src/hello/gen")')
        directories[key] = (root / value).resolve()
    return Project(root=root, contracts=directories["contracts"], output=directories["output"])
