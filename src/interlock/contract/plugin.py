"""`protoc-gen-interlock`: a protoc plugin that writes `x_rpc.py` for every file with services."""

import sys
from collections.abc import Sequence

from protobuf import DescFile, DescMessage, maximum_supported_edition, minimum_supported_edition
from protobuf.plugin import Module
from protobuf.wkt import FileDescriptorSet
from protobuf.wkt.google.protobuf.compiler.plugin_pb import CodeGeneratorRequest, CodeGeneratorResponse

from interlock.contract.declared import declared
from interlock.contract.python.services import services_module

Feature = CodeGeneratorResponse.Feature


def respond(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answer protoc: the generated modules, or what is wrong with the request."""
    if request.parameter:
        return _response(error=f"protoc-gen-interlock takes no options, but was given {request.parameter!r}")
    registry = FileDescriptorSet(file=list(request.proto_file)).to_registry()
    files = [file for each in request.proto_file if (file := registry.file(each.name)) is not None]
    events = {each.options.type: each.message for each in declared(registry, files).events}
    wanted = set(request.file_to_generate)
    return _response([_module(each, events) for each in files if each.name in wanted and each.services])


def main() -> None:
    """Serve protoc on standard input and output."""
    request = CodeGeneratorRequest.from_binary(sys.stdin.buffer.read())
    sys.stdout.buffer.write(respond(request).to_binary())


def _response(files: Sequence[CodeGeneratorResponse.File] = (), error: str | None = None) -> CodeGeneratorResponse:
    return CodeGeneratorResponse(
        file=list(files),
        error=error,
        supported_features=int(Feature.PROTO3_OPTIONAL | Feature.SUPPORTS_EDITIONS),
        minimum_edition=minimum_supported_edition,
        maximum_edition=maximum_supported_edition,
    )


def _module(file: DescFile, events: dict[str, DescMessage]) -> CodeGeneratorResponse.File:
    path = Module.for_desc(file, "_rpc").path.removeprefix(".").replace(".", "/")
    return CodeGeneratorResponse.File(name=f"{path}.py", content=services_module(file, events))


if __name__ == "__main__":
    main()
