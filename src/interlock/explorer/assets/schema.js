// Schemas: what one says, as a list to read, and a value that fits it, to start from.
import { element, prose } from "./elements.js";

let root = {};

export function useDocument(opened) {
  root = opened;
}

export function resolved(schema) {
  let found = schema ?? {};
  for (let hops = 0; found.$ref && hops < 20; hops += 1) {
    const { $ref, ...beside } = found;
    const target = $ref.slice(2).split("/").reduce((at, name) => at?.[name.replaceAll("~1", "/")], root);
    found = { ...target, ...beside };
  }
  if (found.allOf && !found.properties) {
    const parts = found.allOf.map(resolved);
    const properties = Object.assign({}, ...parts.map((each) => each.properties));
    if (Object.keys(properties).length) found = { ...found, type: "object", properties };
  }
  return found;
}

function types(schema) {
  const given = [schema.type ?? []].flat().filter((each) => each !== "null");
  const numeric = given.find((each) => each === "integer" || each === "number");
  return numeric ? [numeric] : given;
}

// The schema without the alternative "null" that every optional field has.
function real(schema) {
  const found = resolved(schema);
  const choices = (found.anyOf ?? []).filter((each) => each.type !== "null");
  if (!choices.length || found.type) return found;
  const { anyOf, ...beside } = found;
  return { ...resolved(choices[0]), ...beside };
}

export function nameOfType(schema) {
  const found = real(schema);
  if (found.type === "array" || types(found)[0] === "array") return `list of ${nameOfType(found.items)}`;
  if (types(found)[0] === "object" && typeof found.additionalProperties === "object") {
    return `map to ${nameOfType(found.additionalProperties)}`;
  }
  if (found.enum) return "one of";
  const name = types(found)[0] ?? "any value";
  return found.format ? `${name} (${found.format})` : found.contentEncoding ? `${name} (${found.contentEncoding})` : name;
}

export function rules(schema) {
  const found = real(schema);
  const said = [];
  const range = (low, high, unit) => {
    if (low !== undefined && high !== undefined) said.push(low === high ? `${low}${unit}` : `${low} to ${high}${unit}`);
    else if (low !== undefined) said.push(`at least ${low}${unit}`);
    else if (high !== undefined) said.push(`at most ${high}${unit}`);
  };
  range(found.minLength, found.maxLength, " characters");
  range(found.minItems, found.maxItems, " items");
  range(found.minProperties, found.maxProperties, " entries");
  const wide = /^u?int(32|64)$/.test(found.format ?? "") && Math.abs(found.maximum) >= 2147483647;
  range(found.minimum > -2147483648 ? found.minimum : undefined, wide ? undefined : found.maximum, "");
  if (found.exclusiveMinimum !== undefined) said.push(`above ${found.exclusiveMinimum}`);
  if (found.exclusiveMaximum !== undefined) said.push(`below ${found.exclusiveMaximum}`);
  if (found.uniqueItems) said.push("no two alike");
  if (found.pattern && types(found)[0] === "string" && !found.format) said.push(`matches ${found.pattern}`);
  if (found.enum) said.push(found.enum.filter((each) => each !== null && typeof each !== "number").join(", ") || found.enum.join(", "));
  for (const each of found["x-interlock-rules"] ?? []) said.push(each.message ?? each.expression ?? `${each.id} ${each.value}`);
  return said.join("; ");
}

export function fieldsOf(schema) {
  const found = real(schema);
  const required = new Set(found.required ?? []);
  const entries = Object.entries(found.properties ?? {});
  if (!entries.length) return null;
  return element("ul", { class: "fields" }, entries.map(([name, given]) => field(name, given, required.has(name))));
}

function field(name, given, required) {
  const found = real(given);
  const inner = found.items ? real(found.items) : typeof found.additionalProperties === "object" ? real(found.additionalProperties) : found;
  const marks = [found.readOnly && "set by the service", found.deprecated && "deprecated", found["x-interlock-sensitive"] && "sensitive"];
  const item = element("li", {},
    element("code", { class: "name" }, name), " ", element("span", { class: "kind" }, nameOfType(given)), " ",
    required ? element("span", { class: "must" }, "required ") : "",
    marks.filter(Boolean).map((each) => element("span", { class: "tag" }, each)),
    " ", element("span", { class: "rule" }, rules(given)), prose(found.description));
  if (inner.properties) {
    const more = element("details", {}, element("summary", { class: "rule" }, "its fields"));
    // opened on demand: messages may hold themselves
    more.addEventListener("toggle", () => more.open && more.childElementCount === 1 && more.append(fieldsOf(inner)), { once: false });
    item.append(more);
  }
  return item;
}

const FORMATS = {
  "date-time": "2026-01-31T12:00:00Z", email: "ada@example.com", uuid: "6f1c2a34-5b6d-4e7f-8091-a2b3c4d5e6f7",
  uri: "https://example.com/", hostname: "example.com", ipv4: "192.0.2.1", ipv6: "2001:db8::1",
};

export function sample(schema, depth = 0) {
  const found = real(schema);
  if (found.examples?.length) return found.examples[0];
  if (found.const !== undefined) return found.const;
  if (found.enum) return found.enum.find((each) => typeof each === "string" && !each.endsWith("_UNSPECIFIED")) ?? found.enum[0];
  switch (types(found)[0]) {
    case "array": return depth > 5 ? [] : [sample(found.items, depth + 1)];
    case "object": return depth > 5 ? {} : object(found, depth);
    case "integer": return Math.max(found.minimum > -2147483648 ? found.minimum : 0, 0);
    case "number": return found.exclusiveMinimum !== undefined ? found.exclusiveMinimum + 1 : Math.max(found.minimum > -1e30 ? found.minimum : 0, 0);
    case "boolean": return false;
    case "string": return (FORMATS[found.format] ?? "").padEnd(found.minLength ?? 0, "x");
    default: return null;
  }
}

// What a message must have and what has an example; all of it where that is nothing.
function object(found, depth) {
  const given = Object.entries(found.properties ?? {}).filter(([, each]) => !resolved(each).readOnly);
  const required = new Set([...(found.required ?? []), ...(found.oneOf?.[0]?.required ?? [])]);
  const wanted = given.filter(([name, each]) => required.has(name) || real(each).examples?.length);
  return Object.fromEntries((wanted.length ? wanted : given).map(([name, each]) => [name, sample(each, depth + 1)]));
}
