"""Contracts written in a test: a header that every one shares, and how it becomes an image."""

from pathlib import Path

from interlock.contract.compile import compile_image

HEADER = """\
syntax = "proto3";
package t.v1;
import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
import "interlock/v1/options.proto";
message Inner { string id = 1; }
enum Color { COLOR_UNSPECIFIED = 0; COLOR_RED = 1; }
message Query {
  string id = 1;
  int32 count = 2;
  repeated string tags = 3;
  bytes data = 4;
  Inner inner = 5;
  map<string, string> labels = 6;
  Color color = 7;
  google.protobuf.Timestamp at = 8;
}
message Answer { string id = 1; repeated Inner inners = 2; }
"""


def write(root: Path, text: str, name: str = "t/v1/t.proto") -> Path:
    """Write the contract `text` below `root`; return the root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + text)
    return root


def image_of(root: Path, text: str) -> bytes:
    """Compile the contract `text`."""
    return compile_image([write(root, text)])


def service(body: str, options: str = "") -> str:
    """Return a service around `body`."""
    return f"service Things {{\n{options}\n{body}\n}}\n"


def rpc(options: str, *, request: str = "Query", reply: str = "Answer", access: str = "unauthenticated: true") -> str:
    """Return a service with one RPC, `Find`, that anybody may call."""
    said = f"option (interlock.v1.method) = {{ {access} }};" if access else ""
    return service(f"rpc Find({request}) returns ({reply}) {{\n{said}\n{options}\n}}")
