// node node.mjs HOST:PORT IMAGE: the scenarios through every client for Node.js; prints what went wrong, as JSON.
import { readFileSync } from "node:fs";
import { compressionGzip, createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { connectDoor } from "./connect_door.mjs";
import { load } from "./contract.mjs";
import { grpcDoor } from "./grpc_door.mjs";
import { run } from "./scenarios.mjs";

const [address, image] = process.argv.slice(2);
const baseUrl = `http://${address}`;
const contract = load(readFileSync(image));
const gzip = { sendCompression: compressionGzip, acceptCompression: [compressionGzip] };
const h2 = { baseUrl, httpVersion: "2" };
const h1 = { baseUrl, httpVersion: "1.1" };
const all = { full: true, clientStreams: true, binary: true };

const native = grpcDoor(address, contract, { "grpc.default_compression_algorithm": 2 });
const doors = [
  native,
  connectDoor("connect-node grpc", createGrpcTransport({ ...h2, ...gzip }), contract, all),
  connectDoor("connect-node grpc-web", createGrpcWebTransport({ ...h2, ...gzip }), contract, all),
  connectDoor("connect-node grpc-web HTTP/1.1", createGrpcWebTransport(h1), contract, { ...all, full: false }),
  connectDoor("connect-node proto", createConnectTransport({ ...h2, ...gzip }), contract, all),
  connectDoor("connect-node proto HTTP/1.1", createConnectTransport(h1), contract, { ...all, full: false }),
  connectDoor("connect-node JSON", createConnectTransport({ ...h2, ...gzip, useBinaryFormat: false }), contract, { ...all, binary: false }),
];

process.stdout.write(JSON.stringify(await run(doors, contract)));
native.close();
process.exitCode = 0;
setTimeout(() => process.exit(), 100).unref();
