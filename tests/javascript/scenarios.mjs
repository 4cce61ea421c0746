// The scenarios, each run through one door. A scenario throws where something is not as it should be.
import { equals, toBinary } from "@bufbuild/protobuf";

const LIMIT = 4 * 1024 * 1024;
const CODES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
const TEXT = "so geht's nicht: 10 % zu viel 🌧";

function same(found, expected, what) {
  const [left, right] = [JSON.stringify(found), JSON.stringify(expected)];
  if (left !== right) throw new Error(`${what}: ${left} is not ${right}`);
}

function check(condition, what) {
  if (!condition) throw new Error(what);
}

async function failing(promise) {
  try {
    await promise;
  } catch (error) {
    if (error?.code === undefined) throw error;
    return error;
  }
  throw new Error("it succeeded");
}

async function soon(condition, what) {
  for (const end = Date.now() + 10_000; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`not within ten seconds: ${what}`);
}

function bytes(size, fill = 0) {
  return new Uint8Array(size).fill(fill);
}

function full({ make }) {
  return make("Echo", {
    text: "grüße, 世界 🌍",
    items: [{ sku: "a", quantity: 1 }, { sku: "b", quantity: 2 }],
    labels: { ключ: "значение" },
    data: Uint8Array.from({ length: 256 }, (_, index) => index),
    volume: 2,
    place: { street: "1 Main", city: "Bergen" },
    number: 0n,
    at: { seconds: 1769853600n, nanos: 123_000_000 },
    tags: ["x", "y"],
    target: { case: "room", value: 7n },
    ratio: 0.1,
    loud: true,
    pause: { seconds: 1n, nanos: 500_000_000 },
    stock: { s: { sku: "s", quantity: 9 } },
    big: 2n ** 64n - 1n,
  });
}

// Both messages have the same fields with the same numbers.
function sameMessage(contract, reply, request) {
  const method = contract.method("Echo");
  const [left, right] = [toBinary(method.output, reply), toBinary(method.input, request)];
  same(Array.from(left), Array.from(right), "the bytes of the message");
}

async function cancelled(door, { make }) {
  const { messages } = await door.call("Echo", [make("Echo", { text: "cancelled?" })]);
  return Number(messages[0].text);
}

export const scenarios = {
  "every kind of field": async (door, contract) => {
    const request = full(contract);
    const { messages } = await door.call("Echo", [request]);
    check(equals(contract.method("Echo").output, messages[0], messages[0]), "a reply of its own kind");
    sameMessage(contract, messages[0], request);
  },

  "an empty message": async (door, { make }) => {
    const { messages } = await door.call("Echo", [make("Echo")]);
    same(messages[0].text, "", "the text");
  },

  "a large text, compressed": async (door, { make }) => {
    const text = "grüße 🌍 ".repeat(20_000);
    const { messages } = await door.call("Echo", [make("Echo", { text })]);
    check(messages[0].text === text, "the text came back changed");
  },

  "every code with its details": async (door, { make }) => {
    for (const code of CODES) {
      const error = await failing(door.call("Fail", [make("Fail", {
        code, message: TEXT, reason: "OUT_OF_STOCK", retryAfter: { seconds: 2n },
        violations: [{ field: "items[0].sku", description: "gibt es nicht" }],
      })]));
      same([error.code, error.message, error.reason], [code, TEXT, "OUT_OF_STOCK"], `code ${code}`);
      same(error.violations, [["items[0].sku", "gibt es nicht"]], `violations of ${code}`);
      same(error.retryAfter, 2, `delay of ${code}`);
      same(error.metadata["x-test-error"], "yes", `metadata of ${code}`);
    }
  },

  "an unexpected exception": async (door, { make }) => {
    const error = await failing(door.call("Fail", [make("Fail", { unexpected: true, message: "hunter2" })]));
    same(error.code, 13, "the code");
    check(!JSON.stringify(error).includes("hunter2"), "the secret is told");
  },

  "a broken rule": async (door, { make }) => {
    const error = await failing(door.call("Echo", [make("Echo", {
      items: [{ sku: "a", quantity: 1 }, { sku: "b", quantity: 0 }],
    })]));
    same([error.code, error.violations.map((each) => each[0])], [3, ["items[1].quantity"]], "the error");
  },

  "a thing that is not there": async (door, { make }) => {
    const error = await failing(door.call("GetThing", [make("GetThing", { thingId: "nobody" })]));
    same(error.code, 5, "the code");
    check(error.message.includes("nobody"), error.message);
  },

  "headers and trailers both ways": async (door, { make }) => {
    const headers = { "x-test-text": "a b", "x-test-raw-bin": "AP8" };
    const came = await door.call("Echo", [make("Echo")], { headers });
    same(came.headers["reply-x-test-text"], "a b", "the header");
    same(came.trailers["trailer-x-test-text"], "a b", "the trailer");
    same(came.headers["reply-x-test-raw-bin"].replaceAll("=", ""), "AP8", "the binary header");
    same(came.trailers["trailer-x-test-raw-bin"].replaceAll("=", ""), "AP8", "the binary trailer");
  },

  "a deadline": async (door, contract) => {
    const before = await cancelled(door, contract);
    const error = await failing(door.call("Slow", [contract.make("Slow", { seconds: 30 })], { timeoutMs: 200 }));
    same(error.code, 4, "the code");
    await soon(async () => (await cancelled(door, contract)) > before, "the handler is cancelled");
  },

  "a caller that leaves": async (door, contract) => {
    const before = await cancelled(door, contract);
    const leaving = new AbortController();
    const calling = failing(door.call("Slow", [contract.make("Slow", { seconds: 30 })], { signal: leaving.signal }));
    setTimeout(() => leaving.abort(), 200);
    same((await calling).code, 1, "the code");
    await soon(async () => (await cancelled(door, contract)) > before, "the handler is cancelled");
  },

  "a deprecated method": async (door, { make }) => {
    const came = await door.call("EchoFormerly", [make("EchoFormerly", { text: "x" })]);
    same(came.messages[0].text, "x", "the text");
    same(came.headers.deprecation, "@1735689600", "Deprecation");
    check(came.headers.sunset?.startsWith("Thu, 31 Dec 2099"), `Sunset: ${came.headers.sunset}`);
    check(came.headers.link?.includes("successor-version"), `Link: ${came.headers.link}`);
  },

  "a message at the limit": async (door, { make, method }) => {
    if (!door.can.binary) return; // JSON is counted as it is sent
    const overhead = toBinary(method("Echo").input, make("Echo", { data: bytes(LIMIT / 2) })).length - LIMIT / 2;
    const at = await door.call("Echo", [make("Echo", { data: bytes(LIMIT - overhead, 7) })]);
    same(at.messages[0].data.length, LIMIT - overhead, "the size at the limit");
    const sent = await failing(door.call("Echo", [make("Echo", { data: bytes(LIMIT - overhead + 1) })]));
    same(sent.code, 8, "the code of a request above it");
    const received = await failing(door.call("Blob", [make("Blob", { size: LIMIT - overhead + 1 })]));
    same(received.code, 8, "the code of a reply above it");
    same((await door.call("Echo", [make("Echo", { text: "on" })])).messages[0].text, "on", "the next call");
  },

  "a server stream": async (door, { make }) => {
    const came = await door.call("CountUp", [make("CountUp", { count: 1000 })]);
    same(came.messages.map((each) => each.number), Array.from({ length: 1000 }, (_, index) => index + 1), "the numbers");
    same([came.headers["x-test-counting"], came.trailers["x-test-counted"]], ["up", "1000"], "header and trailer");
  },

  "an empty server stream": async (door, { make }) => {
    const came = await door.call("CountUp", [make("CountUp")]);
    same([came.messages.length, came.trailers["x-test-counted"]], [0, "0"], "what came");
  },

  "a stream that fails midway": async (door, { make }) => {
    const seen = [];
    const request = make("CountUp", { count: 5, failAfter: 3 });
    const error = await failing(door.call("CountUp", [request], { onMessage: (each) => seen.push(each.number) }));
    same([error.code, error.message, seen], [5, "nothing after 3", [1, 2, 3]], "what came");
  },

  "a deadline in a stream": async (door, { make }) => {
    const request = make("CountUp", { count: 10_000, pause: { seconds: 0n, nanos: 20_000_000 } });
    same((await failing(door.call("CountUp", [request], { timeoutMs: 300 }))).code, 4, "the code");
  },

  "leaving a stream": async (door, contract) => {
    const before = await cancelled(door, contract);
    const leaving = new AbortController();
    const request = contract.make("CountUp", { count: 100_000, pause: { seconds: 0n, nanos: 1_000_000 } });
    const onMessage = (each) => each.number === 3 && leaving.abort();
    same((await failing(door.call("CountUp", [request], { signal: leaving.signal, onMessage }))).code, 1, "the code");
    await soon(async () => (await cancelled(door, contract)) > before, "the handler is cancelled");
  },

  "a client stream": async (door, { make }) => {
    if (!door.can.clientStreams) return;
    const numbers = Array.from({ length: 1000 }, (_, index) => make("Sum", { number: BigInt(index) }));
    const { messages } = await door.call("Sum", numbers);
    same([Number(messages[0].sum), messages[0].count], [499500, 1000], "the sum");
    same((await door.call("Sum", [])).messages[0].count, 0, "the count of none");
  },

  "a talk, line after line": async (door, { make }) => {
    if (!door.can.clientStreams) return;
    const lines = Array.from({ length: 100 }, (_, index) => make("Chat", { text: String(index) }));
    const { messages } = await door.call("Chat", lines);
    same(messages.map((each) => each.text), lines.map((each) => each.text), "the lines");
  },

  "a talk in full duplex": async (door, { make }) => {
    if (!door.can.full) return;
    let answered;
    const answer = new Promise((resolve) => (answered = resolve));
    async function* lines() {
      yield make("Chat", { text: "one" });
      await answer;
      yield make("Chat", { text: "two" });
    }
    const { messages } = await door.call("Chat", lines(), { onMessage: () => answered() });
    same(messages.map((each) => each.text), ["one", "two"], "the lines");
  },
};

// Run every scenario through every door, one at a time; return what went wrong, null for nothing.
export async function run(doors, contract) {
  const found = {};
  for (const door of doors) {
    found[door.name] = {};
    for (const [name, scenario] of Object.entries(scenarios)) {
      found[door.name][name] = await outcome(scenario, door, contract);
    }
  }
  return found;
}

async function outcome(scenario, door, contract) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("not over after 30 seconds")), 30_000);
  });
  try {
    await Promise.race([scenario(door, contract), late]);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : JSON.stringify(error);
  } finally {
    clearTimeout(timer);
  }
}
