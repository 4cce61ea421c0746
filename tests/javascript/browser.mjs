// The scenarios through connect-web, in the page that loads this; `window.outcome` becomes what went wrong.
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { connectDoor } from "./connect_door.mjs";
import { load } from "./contract.mjs";
import { run } from "./scenarios.mjs";

const can = { full: false, clientStreams: false, binary: true };

async function main() {
  const baseUrl = new URLSearchParams(location.search).get("at");
  const contract = load(new Uint8Array(await (await fetch("image")).arrayBuffer()));
  const doors = [
    connectDoor("connect-web proto", createConnectTransport({ baseUrl, useBinaryFormat: true }), contract, can),
    connectDoor("connect-web JSON", createConnectTransport({ baseUrl }), contract, { ...can, binary: false }),
    connectDoor("connect-web grpc-web", createGrpcWebTransport({ baseUrl }), contract, can),
  ];
  return run(doors, contract);
}

main().then(
  (found) => (window.outcome = found),
  (error) => (window.outcome = { failed: String(error) }),
);
