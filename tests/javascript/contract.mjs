// The sample contract as descriptors, read from a FileDescriptorSet; no code is generated.
import { create, createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

export function load(bytes) {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, bytes));
  const service = registry.getService("sample.v1.SampleService");
  const method = (name) => service.methods.find((each) => each.name === name);
  return {
    registry,
    method,
    make: (name, fields = {}) => create(method(name).input, fields),
  };
}

// What the details of an error say, in the form of the scenarios.
export function read(registry, details) {
  const found = { reason: "", domain: "", violations: [], retryAfter: null };
  for (const [name, bytes] of details) {
    const schema = registry.getMessage(name);
    if (!schema) continue;
    const message = fromBinary(schema, bytes);
    if (name === "google.rpc.ErrorInfo") {
      found.reason = message.reason;
      found.domain = message.domain;
    } else if (name === "google.rpc.BadRequest") {
      found.violations = message.fieldViolations.map((each) => [each.field, each.description]);
    } else if (name === "google.rpc.RetryInfo") {
      found.retryAfter = Number(message.retryDelay.seconds);
    }
  }
  return found;
}
