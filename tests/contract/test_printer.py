"""The printer: text of a descriptor that compiles to the same descriptor again."""

import subprocess
from pathlib import Path

from protobuf.wkt import FileDescriptorProto, FileDescriptorSet
from protobuf.wkt.google.protobuf import descriptor_pb
from protovalidate._gen.buf.validate import validate_pb

from interlock.contract.bundled import original
from interlock.contract.compile import find_tool
from interlock.contract.printer import print_proto

EVERYTHING = """\
syntax = "proto2";
package every.v1;
import "google/protobuf/duration.proto";
option java_package = "com.every \\"quoted\\"";
message Node {
  option deprecated = true;
  required string name = 1 [default = "a \\"b\\" \\n", json_name = "NAME"];
  repeated int32 numbers = 2 [packed = true];
  optional bytes raw = 3 [default = "\\001z"];
  optional double limit = 4 [default = inf];
  optional bool on = 5 [default = true];
  optional Kind kind = 6 [default = KIND_B, deprecated = true];
  map<string, Node> children = 7;
  map<int32, Kind> kinds = 14;
  oneof choice {
    string text = 8;
    google.protobuf.Duration time = 9;
  }
  oneof other { int32 last = 12; }
  extensions 100 to 199, 1000 to max;
  reserved 10, 20 to 30, 50;
  reserved "gone", "away";
  message Inner {
    enum Deep { DEEP_ZERO = 0; }
    optional Deep deep = 1;
    extend Node { optional Inner inside = 150; }
  }
  enum Kind {
    option allow_alias = true;
    KIND_A = 0;
    KIND_B = 1 [deprecated = true];
    KIND_C = 1;
    reserved -5, 10 to 12, 50 to max;
    reserved "KIND_X";
  }
}
extend Node { repeated string more = 100; }
service Nodes { rpc Walk(stream Node) returns (stream Node.Inner); }
"""

PROTO3 = """\
syntax = "proto3";
package three.v1;
message M { optional int32 a = 1; int32 b = 2; repeated int32 c = 3 [packed = false]; oneof o { int32 d = 4; } }
"""

EDITION = """\
edition = "2023";
package edition.v1;
option features.field_presence = IMPLICIT;
message M {
  int32 a = 1;
  int32 b = 2 [features.field_presence = EXPLICIT];
  reserved gone;
}
enum E { option features.enum_type = CLOSED; E_ONE = 1; }
"""


def compiled(directory: Path, text: str) -> FileDescriptorProto:
    directory.mkdir()
    (directory / "every.proto").write_text(text)
    image = directory / "image.binpb"
    command = [str(find_tool("buf")), "build", str(directory), "--as-file-descriptor-set"]
    command += ["--exclude-source-info", "-o", str(image)]
    subprocess.run(command, check=True)
    return FileDescriptorSet.from_binary(image.read_bytes()).file[-1]


def test_what_is_printed_compiles_to_the_same(tmp_path: Path) -> None:
    """Every feature of proto2, proto3 and editions survives."""
    for name, text in (("two", EVERYTHING), ("three", PROTO3), ("edition", EDITION)):
        first = compiled(tmp_path / f"{name}1", text)
        second = compiled(tmp_path / f"{name}2", print_proto(first))
        assert second == first, name


def test_the_rules_of_protovalidate_are_printed_whole(tmp_path: Path) -> None:
    """validate.proto comes out with every message, field, number and type; only its own custom options are lost."""
    found = compiled(tmp_path / "validate", print_proto(validate_pb.desc().proto))
    wanted = FileDescriptorProto.from_binary(validate_pb.desc().proto.to_binary())
    assert [shape(each) for each in found.message_type] == [shape(each) for each in wanted.message_type]
    assert [each.name for each in found.extension] == [each.name for each in wanted.extension]
    assert original("buf/validate/validate.proto") == validate_pb.desc().proto


def shape(message: descriptor_pb.DescriptorProto) -> object:
    fields = [(each.name, each.number, each.type, each.label, each.type_name) for each in message.field]
    ranges = [(each.start, each.end) for each in message.extension_range]
    return (
        message.name,
        fields,
        ranges,
        [each.name for each in message.oneof_decl],
        list(map(shape, message.nested_type)),
    )
