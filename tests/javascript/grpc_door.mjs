// A door through @grpc/grpc-js, whose messages are written and read by @bufbuild/protobuf.
import grpc from "@grpc/grpc-js";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { read } from "./contract.mjs";

export function grpcDoor(address, contract, options = {}) {
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    ...options,
  });

  async function call(methodName, requests, { headers = {}, timeoutMs, signal, onMessage } = {}) {
    const method = contract.method(methodName);
    const path = `/${method.parent.typeName}/${method.name}`;
    const write = (message) => Buffer.from(toBinary(method.input, message));
    const readReply = (bytes) => fromBinary(method.output, bytes);
    const metadata = new grpc.Metadata();
    for (const [key, value] of Object.entries(headers)) {
      metadata.set(key, key.endsWith("-bin") ? Buffer.from(value, "base64") : value);
    }
    const settings = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    const came = { messages: [], headers: {}, trailers: {} };
    await new Promise((resolve, reject) => {
      let failure = null;
      const finish = (error, message) => {
        failure = error;
        if (message) came.messages.push(message);
      };
      const kind = method.methodKind;
      const running =
        kind === "unary" ? client.makeUnaryRequest(path, write, readReply, requests[0], metadata, settings, finish)
        : kind === "client_streaming" ? client.makeClientStreamRequest(path, write, readReply, metadata, settings, finish)
        : kind === "server_streaming" ? client.makeServerStreamRequest(path, write, readReply, requests[0], metadata, settings)
        : client.makeBidiStreamRequest(path, write, readReply, metadata, settings);
      running.on("metadata", (given) => (came.headers = plain(given)));
      if (kind === "server_streaming" || kind === "bidi_streaming") {
        running.on("data", (message) => {
          came.messages.push(message);
          onMessage?.(message);
        });
        running.on("error", (error) => (failure = error));
      }
      running.on("status", (status) => {
        came.trailers = plain(status.metadata);
        // the callback of a unary call runs behind this event
        setImmediate(() => (status.code === 0 && !failure ? resolve() : reject(told(status, contract))));
      });
      if (signal) signal.addEventListener("abort", () => running.cancel());
      if (kind === "client_streaming" || kind === "bidi_streaming") send(running, requests);
    });
    return came;
  }

  return { name: "grpc-js", call, can: { full: true, clientStreams: true, binary: true }, close: () => client.close() };
}

async function send(running, requests) {
  for await (const each of requests) running.write(each);
  running.end();
}

function told(status, contract) {
  const packed = status.metadata.get("grpc-status-details-bin")[0];
  const schema = contract.registry.getMessage("google.rpc.Status");
  const details = packed ? fromBinary(schema, packed).details : [];
  const pairs = details.map((each) => [each.typeUrl.split("/").pop(), each.value]);
  return {
    code: status.code, message: status.details, metadata: plain(status.metadata), ...read(contract.registry, pairs),
  };
}

function plain(metadata) {
  const found = {};
  for (const [key, values] of Object.entries(metadata.toHttp2Headers())) found[key] = [].concat(values).join(", ");
  return found;
}
