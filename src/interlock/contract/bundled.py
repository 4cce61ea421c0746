"""The `.proto` files that contracts may import without having them."""

import sysconfig
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from protobuf.wkt import FileDescriptorProto
from protovalidate._gen.buf.validate import validate_pb

from interlock.contract.printer import print_proto

HERE = Path(__file__).parent
VALIDATE = "buf/validate/validate.proto"
GOOGLE = ("google/api", "google/rpc", "google/type")


@cache
def bundled_protos() -> Mapping[str, str]:
    """Return path -> text of every file: Interlock's options, google's annotations, protovalidate's rules."""
    texts = {VALIDATE: print_proto(validate_pb.desc().proto)}
    for root, directories in ((HERE / "protos", ("interlock/v1",)), (_google_root(), GOOGLE)):
        for directory in directories:
            for path in sorted((root / directory).glob("*.proto")):
                texts[str(path.relative_to(root).as_posix())] = path.read_text()
    return texts


def original(path: str) -> FileDescriptorProto | None:
    """Return the descriptor as its wheel has it, where the bundled text is only a print of it."""
    return validate_pb.desc().proto if path == VALIDATE else None


def _google_root() -> Path:
    spec = find_spec("google.api")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        if Path(location, "annotations.proto").exists():
            return Path(location).parent.parent
    purelib = sysconfig.get_path("purelib")
    raise FileNotFoundError(f"google/api/annotations.proto is not below {purelib}: install googleapis-common-protos")
