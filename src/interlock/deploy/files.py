"""Written files against those that would be written now."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that is not as it would be written: missing, changed, or left over from an earlier run."""

    path: Path
    state: Literal["missing", "stale", "left over"]


def differences(directory: Path, files: Mapping[str, str]) -> list[Difference]:
    """Return what differs between `files` and `directory`, YAML files that the same command wrote once included."""
    found = []
    for name, text in files.items():
        path = directory / name
        if not path.exists():
            found.append(Difference(path, "missing"))
        elif path.read_text(encoding="utf-8") != text:
            found.append(Difference(path, "stale"))
    beside = {(directory / name).parent for name in files}
    heads = {text.partition("\n")[0] for text in files.values()}
    written = [path for folder in sorted(beside) for path in sorted(folder.glob("*.yaml")) if _head(path) in heads]
    left = [path for path in written if path.relative_to(directory).as_posix() not in files]
    return [*found, *(Difference(path, "left over") for path in left)]


def write(directory: Path, files: Mapping[str, str]) -> list[Difference]:
    """Write what differs and remove what is left over; return what was done."""
    done = differences(directory, files)
    for each in done:
        if each.state == "left over":
            each.path.unlink()
        else:
            each.path.parent.mkdir(parents=True, exist_ok=True)
            each.path.write_text(files[each.path.relative_to(directory).as_posix()], encoding="utf-8")
    return done


def _head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\n")
