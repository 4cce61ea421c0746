"""Write every generated file of the repository, or with --check say which are stale.

The modules under `interlock.contract.gen` come from descriptors: Interlock's own protos, compiled by buf, and those
of google.api, google.rpc, grpc.health and grpc.reflection as their own wheels carry them, so that no foreign
`.proto` is copied here.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from google.api import annotations_pb2, field_behavior_pb2, http_pb2, httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as reflection_v1alpha
from protobuf.wkt.google.protobuf.compiler.plugin_pb import CodeGeneratorRequest, CodeGeneratorResponse
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from interlock.cli.settings import markdown

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "src/interlock/contract/protos"
BUNDLED = ROOT / "src/interlock/contract/gen"
PROJECTS = ("examples/shop", "tests/sample", "tests/conformance", "tests/ledger")


def reflection_v1() -> bytes:
    """Return reflection v1's descriptor: v1alpha's under its final name, which is how gRPC defines it."""
    alpha: bytes = reflection_v1alpha.DESCRIPTOR.serialized_pb
    proto = FileDescriptorProto.from_binary(alpha)
    proto.name = "grpc/reflection/v1/reflection.proto"
    proto.package = "grpc.reflection.v1"
    for message in proto.message_type:
        for field in message.field:
            field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
    for service in proto.service:
        for method in service.method:
            method.input_type = method.input_type.replace(".v1alpha.", ".v1.")
            method.output_type = method.output_type.replace(".v1alpha.", ".v1.")
    return proto.to_binary()


def own_descriptors() -> list[FileDescriptorProto]:
    """Compile Interlock's own protos, comments included."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory, "image.binpb")
        buf = Path(sys.executable).parent / "buf"
        subprocess.run([buf, "build", PROTOS, "--as-file-descriptor-set", "-o", image], check=True)  # noqa: S603 - own paths
        return list(FileDescriptorSet.from_binary(image.read_bytes()).file)


def name_in_json(message: DescriptorProto) -> None:
    """Give every field the JSON name that a compiler would, which a wheel's own descriptors leave out."""
    for field in message.field:
        if not field.json_name:
            first, *rest = field.name.split("_")
            field.json_name = first + "".join(each[:1].upper() + each[1:] for each in rest)
    for nested in message.nested_type:
        name_in_json(nested)


def bundled() -> dict[str, str]:
    """Return path -> text of the modules under `interlock.contract.gen`."""
    foreign = [
        module.DESCRIPTOR.serialized_pb
        for module in (http_pb2, annotations_pb2, field_behavior_pb2, httpbody_pb2, status_pb2, error_details_pb2,
                       health_pb2, reflection_v1alpha)
    ]  # fmt: skip
    foreign.append(reflection_v1())
    files = {each.name: each for each in own_descriptors()}
    wanted = [name for name in files if not name.startswith("google/protobuf/")]
    for binary in foreign:
        proto = FileDescriptorProto.from_binary(binary)
        proto.name = proto.name.replace("grpc_health/", "grpc/health/").replace("grpc_reflection/", "grpc/reflection/")
        for message in proto.message_type:
            name_in_json(message)
        files[proto.name] = proto
        wanted.append(proto.name)
    for name in ("any", "duration", "struct", "descriptor"):
        if (path := f"google/protobuf/{name}.proto") not in files:
            module = __import__(f"google.protobuf.{name}_pb2", fromlist=["DESCRIPTOR"])
            files[path] = FileDescriptorProto.from_binary(module.DESCRIPTOR.serialized_pb)
    ordered: dict[str, FileDescriptorProto] = {}

    def visit(name: str) -> None:
        if name not in ordered:
            for dependency in files[name].dependency:
                visit(dependency)
            ordered[name] = files[name]

    for name in files:
        visit(name)
    request = CodeGeneratorRequest(file_to_generate=sorted(wanted), proto_file=list(ordered.values()))
    plugin = Path(sys.executable).parent / "protoc-gen-py"
    result = subprocess.run([plugin], input=request.to_binary(), capture_output=True, check=True)  # noqa: S603 - own paths
    response = CodeGeneratorResponse.from_binary(result.stdout)
    if response.error:
        raise SystemExit(response.error)
    return {each.name: each.content for each in response.file}


def stale(directory: Path, wanted: dict[str, str]) -> list[Path]:
    """Return the files below `directory` that differ from `wanted`, are missing, or stand there unasked."""
    there = {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*.py")}
    names = {name for name in there.keys() | wanted.keys() if there.get(name) != wanted.get(name)}
    return sorted(directory / name for name in names)


def settings_page(*, check: bool) -> bool:
    """Write the reference page of the settings, or tell whether it is up to date."""
    page = ROOT / "docs/settings.md"
    if check:
        return page.exists() and page.read_text() == markdown()
    page.write_text(markdown())
    return True


def main() -> int:
    """Generate, or check; the exit code is 1 if something is stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 and name what is stale")
    check = parser.parse_args().check
    wanted = bundled()
    old = stale(BUNDLED, wanted)
    if check and old:
        print("stale, run `make generate`:", *(path.relative_to(ROOT) for path in old), sep="\n  ")
        return 1
    if not check:
        shutil.rmtree(BUNDLED, ignore_errors=True)
        for name, text in wanted.items():
            path = BUNDLED / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if not settings_page(check=check):
        print("stale, run `make generate`:\n  docs/settings.md")
        return 1
    interlock = Path(sys.executable).parent / "interlock"
    for project in PROJECTS:
        command = [str(interlock), "generate", *(["--check"] if check else [])]
        if subprocess.run(command, cwd=ROOT / project, check=False).returncode:  # noqa: S603 - own paths
            return 1
    for what in ("kubernetes", "compose", "dockerfile", "alerts", "dashboards"):
        command = [str(interlock), "deploy", what, *(["--check"] if check else [])]
        if subprocess.run(command, cwd=ROOT / "examples/shop", check=False).returncode:  # noqa: S603 - own paths
            return 1
    command = [str(interlock), "guide", "build", "examples/shop", *(["--check"] if check else [])]
    return subprocess.run(command, cwd=ROOT, check=False).returncode  # noqa: S603 - own paths


if __name__ == "__main__":
    sys.exit(main())
