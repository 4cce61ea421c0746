"""gRPC server reflection, v1 and v1alpha alike: lets `buf curl` and grpcurl call without a `.proto` at hand."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

from protobuf import Oneof
from protobuf.wkt.google.protobuf.descriptor_pb import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

from interlock.call import Call
from interlock.contract.gen.grpc.reflection.v1 import reflection_pb as v1
from interlock.errors import Code
from interlock.protocols.status import clip


class Index:
    """Files by their name, by the symbols in them, and by the extensions they declare."""

    def __init__(self, files: Iterable[FileDescriptorProto], services: Iterable[str]) -> None:
        self.services = sorted(services)
        self._files: dict[str, FileDescriptorProto] = {}
        self._symbols: dict[str, str] = {}
        self._extensions: dict[str, dict[int, str]] = {}
        for file in files:
            if file.name not in self._files:
                self._add(file)

    def _add(self, file: FileDescriptorProto) -> None:
        bare = FileDescriptorProto.from_binary(file.to_binary())
        bare.clear_field("source_code_info")
        self._files[file.name] = bare
        prefix = f"{file.package}." if file.package else ""
        for message in file.message_type:
            self._add_message(prefix, message, file.name)
        for enum in file.enum_type:
            self._add_enum(prefix, enum, file.name)
        for service in file.service:
            self._symbols[prefix + service.name] = file.name
            for method in service.method:
                self._symbols[f"{prefix}{service.name}.{method.name}"] = file.name
        for extension in file.extension:
            self._symbols[prefix + extension.name] = file.name
            self._extensions.setdefault(extension.extendee.removeprefix("."), {})[extension.number] = file.name

    def _add_message(self, prefix: str, message: DescriptorProto, file: str) -> None:
        name = prefix + message.name
        self._symbols[name] = file
        for field in message.field:
            self._symbols[f"{name}.{field.name}"] = file
        for oneof in message.oneof_decl:
            self._symbols[f"{name}.{oneof.name}"] = file
        for enum in message.enum_type:
            self._add_enum(f"{name}.", enum, file)
        for extension in message.extension:
            self._symbols[f"{name}.{extension.name}"] = file
            self._extensions.setdefault(extension.extendee.removeprefix("."), {})[extension.number] = file
        for nested in message.nested_type:
            self._add_message(f"{name}.", nested, file)

    def _add_enum(self, prefix: str, enum: EnumDescriptorProto, file: str) -> None:
        self._symbols[prefix + enum.name] = file
        for value in enum.value:  # a value's name stands beside its enum's, not in it
            self._symbols[prefix + value.name] = file

    def file(self, name: str) -> list[bytes] | None:
        """Return the file and all it needs, itself first, or None."""
        if name not in self._files:
            return None
        found: dict[str, bytes] = {}
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each not in found and each in self._files:
                found[each] = self._files[each].to_binary()
                waiting.extend(self._files[each].dependency)
        return list(found.values())

    def symbol(self, name: str) -> list[bytes] | None:
        """Return the files that declare what has that full name (a message, service, method, field …), or None."""
        return self.file(self._symbols.get(name, ""))

    def extension(self, message: str, number: int) -> list[bytes] | None:
        """Return the files that declare an extension of `message`, or None."""
        return self.file(self._extensions.get(message, {}).get(number, ""))

    def extension_numbers(self, message: str) -> list[int] | None:
        """Return the numbers of the extensions of `message`, None where there is no such message."""
        if message not in self._symbols and message not in self._extensions:
            return None
        return sorted(self._extensions.get(message, {}))


class ReflectionService:
    """`grpc.reflection.v1.ServerReflection`, and v1alpha, which differs in its package only."""

    def __init__(self, index: Index, messages: Any = v1) -> None:
        self._index = index
        self._messages = messages

    async def server_reflection_info(self, requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[Any]:
        """Answer each question in turn; a question about nothing known is answered with NOT_FOUND, in the stream."""
        async for request in requests:
            yield self._answer(request)

    def _answer(self, request: Any) -> Any:
        index, question = self._index, request.message_request
        match question.field if question is not None else None:
            case "file_by_filename":
                return self._files(request, index.file(question.value))
            case "file_containing_symbol":
                return self._files(request, index.symbol(question.value))
            case "file_containing_extension":
                wanted = question.value
                return self._files(request, index.extension(wanted.containing_type, wanted.extension_number))
            case "all_extension_numbers_of_type":
                return self._extension_numbers(request, question.value)
            case "list_services":
                return self._services(request)
            case _:
                return self._error(request, Code.INVALID_ARGUMENT, "the request asks nothing")

    def _extension_numbers(self, request: Any, message: str) -> Any:
        numbers = self._index.extension_numbers(message)
        if numbers is None:
            return self._error(request, Code.NOT_FOUND, f"no message {message!r} here")
        reply = self._messages.ExtensionNumberResponse(base_type_name=message, extension_number=numbers)
        return self._reply(request, "all_extension_numbers_response", reply)

    def _services(self, request: Any) -> Any:
        services = [self._messages.ServiceResponse(name=name) for name in self._index.services]
        return self._reply(request, "list_services_response", self._messages.ListServiceResponse(service=services))

    def _files(self, request: Any, files: list[bytes] | None) -> Any:
        if files is None:
            return self._error(request, Code.NOT_FOUND, f"{request.message_request.value!r} is not known here")
        reply = self._messages.FileDescriptorResponse(file_descriptor_proto=files)
        return self._reply(request, "file_descriptor_response", reply)

    def _error(self, request: Any, code: Code, message: str) -> Any:
        error = self._messages.ErrorResponse(error_code=int(code), error_message=clip(message))
        return self._reply(request, "error_response", error)

    def _reply(self, request: Any, field: str, value: Any) -> Any:
        return self._messages.ServerReflectionResponse(
            valid_host=request.host, original_request=request, message_response=Oneof(field=field, value=value)
        )
