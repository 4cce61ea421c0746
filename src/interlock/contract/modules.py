"""Where the generated Python of bundled `.proto` files lies: in Interlock, in protobuf-py, in protovalidate."""

from functools import cache
from importlib import import_module
from pathlib import Path

import protobuf.wkt
from protobuf import DescFile

WELL_KNOWN = Path(protobuf.wkt.__file__).parent
OWN = Path(__file__).parent / "gen"


@cache
def package_of(path: str) -> str | None:
    """Return the package below which the module of the file `path` is installed; None if there is none."""
    if path == "buf/validate/validate.proto":
        return "protovalidate._gen"
    module = f"{path.removesuffix('.proto')}_pb.py"
    if path.startswith("google/protobuf/"):
        return "protobuf.wkt" if (WELL_KNOWN / module).exists() else None
    return "interlock.contract.gen" if (OWN / module).exists() else None


def installed(path: str) -> DescFile | None:
    """Return the descriptor of `path` from its installed module; None if there is none."""
    package = package_of(path)
    if package is None:
        return None
    found = import_module(f"{package}.{path.removesuffix('.proto').replace('/', '.')}_pb").desc()
    return found if isinstance(found, DescFile) else None
