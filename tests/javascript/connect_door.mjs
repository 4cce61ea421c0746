// A door through a transport of the Connect project, in Node.js or in a browser.
import { ConnectError, createContextValues } from "@connectrpc/connect";
import { read } from "./contract.mjs";

export function connectDoor(name, transport, contract, can) {
  async function call(methodName, requests, { headers = {}, timeoutMs, signal, onMessage } = {}) {
    const method = contract.method(methodName);
    const sent = new Headers();
    for (const [key, value] of Object.entries(headers)) sent.set(key, value);
    const values = createContextValues();
    try {
      if (method.methodKind === "unary") {
        const reply = await transport.unary(method, signal, timeoutMs, sent, requests[0], values);
        return { messages: [reply.message], headers: plain(reply.header), trailers: plain(reply.trailer) };
      }
      const input = Symbol.asyncIterator in requests ? requests : each(requests);
      const reply = await transport.stream(method, signal, timeoutMs, sent, input, values);
      const messages = [];
      for await (const message of reply.message) {
        messages.push(message);
        onMessage?.(message);
      }
      return { messages, headers: plain(reply.header), trailers: plain(reply.trailer) };
    } catch (caught) {
      const error = ConnectError.from(caught);
      const details = error.details.map((each) => [each.type, each.value]);
      throw { code: error.code, message: error.rawMessage, metadata: plain(error.metadata), ...read(contract.registry, details) };
    }
  }
  return { name, call, can };
}

function plain(headers) {
  return Object.fromEntries(headers.entries());
}

async function* each(requests) {
  yield* requests;
}
