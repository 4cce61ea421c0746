// The page of an API: its operations by service, read from the OpenAPI document beside it, each to be tried.
import { element, prose } from "./elements.js";
import { fieldsOf, nameOfType, resolved, rules, useDocument } from "./schema.js";
import { trying } from "./trying.js";

const VERBS = ["get", "post", "put", "patch", "delete"];
const byId = (id) => document.getElementById(id);

function credentials() {
  return { token: byId("token").value.trim(), apiKey: byId("api-key").value.trim() };
}

function operationsOf(opened) {
  const server = new URL(opened.servers?.[0]?.url ?? "/", document.baseURI);
  if (!server.pathname.endsWith("/")) server.pathname += "/";
  return Object.entries(opened.paths ?? {}).flatMap(([path, item]) => VERBS.filter((verb) => item[verb]).map((verb) => {
    const said = item[verb];
    const content = resolved(said.requestBody).content ?? {};
    const first = Object.values(content)[0];
    const success = Object.entries(said.responses).find(([status]) => status.startsWith("2"));
    return {
      said, path, verb, server, id: said.operationId, tag: said.tags?.[0] ?? "", open: said.security?.length === 0,
      parameters: (said.parameters ?? []).map(resolved),
      body: first ? { schema: first.schema, examples: first.examples ?? {}, types: Object.keys(content) } : null,
      accepts: Object.keys(resolved(success?.[1]).content ?? {}),
    };
  }));
}

function facts(operation) {
  const said = operation.said;
  const fact = (name) => said[`x-interlock-${name}`];
  const limit = fact("rate-limit");
  const gone = fact("deprecation");
  const rows = [
    ["Permission", operation.open ? "none: anybody may call it" : fact("permission") && element("code", {}, fact("permission"))],
    ["Repeating", { SAFE: "safe", KEYED: "safe with the same Idempotency-Key" }[fact("idempotency")]],
    ["Time limit", fact("timeout") && `${fact("timeout")} s`],
    ["Rate limit", limit && `${limit.requests} requests in ${limit.seconds} s for each caller`],
    ["Error reasons", fact("reasons")?.map((each) => [element("code", {}, each), " "])],
    ["Deprecated", gone && `${gone.since ? `since ${gone.since}` : ""} ${gone.sunset ? `until ${gone.sunset}` : ""}; use ${gone.successor}`],
    ["RPC", fact("rpc") && element("code", {}, fact("rpc"))],
  ].filter(([, value]) => value);
  return element("dl", { class: "facts" }, rows.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

function parameterTable(parameters) {
  if (!parameters.length) return [];
  const rows = parameters.map((each) => element("tr", {},
    element("td", {}, element("code", {}, each.name), each.required ? element("span", { class: "must" }, " required") : ""),
    element("td", {}, each.in),
    element("td", {}, element("span", { class: "kind" }, nameOfType(each.schema)), " ", element("span", { class: "rule" }, rules(each.schema)), prose(each.description))));
  const head = element("tr", {}, ["Name", "In", "What it is"].map((each) => element("th", { scope: "col" }, each)));
  return [element("h3", {}, "Parameters"), element("table", {}, element("thead", {}, head), element("tbody", {}, rows))];
}

function replies(operation) {
  const rows = Object.entries(operation.said.responses).map(([status, given]) => {
    const reply = resolved(given);
    const schema = Object.values(reply.content ?? {})[0]?.schema;
    const inside = schema?.contentSchema ?? schema;
    const fields = status.startsWith("2") && inside ? fieldsOf(inside) : null;
    const codes = inside?.allOf?.[1]?.properties?.error?.properties?.code?.enum ?? [];
    return element("tr", {},
      element("td", {}, element("span", { class: status.startsWith("2") || status.startsWith("3") ? "good" : "bad" }, status)),
      element("td", {}, codes.map((each) => [element("code", {}, each), " "]), prose(reply.description), fields));
  });
  return element("details", {}, element("summary", { class: "more" }, "Replies"), element("table", {}, element("tbody", {}, rows)));
}

function section(operation) {
  const said = operation.said;
  const head = element("summary", {},
    element("span", { class: `verb ${operation.verb}` }, operation.verb.toUpperCase()),
    element("span", { class: "path" }, operation.path), element("span", { class: "says" }, said.summary ?? ""),
    said.deprecated ? element("span", { class: "tag" }, "deprecated") : "",
    operation.open ? element("span", { class: "tag" }, "open") : said["x-interlock-permission"] ? element("span", { class: "tag" }, said["x-interlock-permission"]) : "");
  const made = element("details", { class: `operation${said.deprecated ? " gone" : ""}`, id: operation.id }, head);
  // filled when first opened: a large API has hundreds
  made.addEventListener("toggle", () => {
    if (!made.open || made.childElementCount > 1) return;
    const body = operation.body ? [element("h3", {}, "Body"), fieldsOf(operation.body.schema) ?? element("p", {}, nameOfType(operation.body.schema))] : [];
    made.append(element("div", { class: "body" }, prose(said.description), facts(operation), parameterTable(operation.parameters), body, trying(operation, credentials), replies(operation)));
  });
  return made;
}

function fill(opened) {
  const operations = operationsOf(opened);
  document.title = byId("title").textContent = opened.info.title;
  byId("version").textContent = `Version ${opened.info.version}`;
  byId("about").replaceWith(...prose(opened.info.description));
  byId("api-key-field").hidden = !Object.values(opened.components?.securitySchemes ?? {}).some((each) => each.type === "apiKey");
  for (const tag of opened.tags ?? []) {
    const own = operations.filter((each) => each.tag === tag.name);
    if (!own.length) continue;
    byId("operations").append(element("section", { "aria-label": tag.name }, element("h2", {}, tag.name), prose(tag.description), own.map(section)));
    byId("index").append(element("section", {}, element("h2", {}, tag.name), element("ul", {}, own.map((each) => element("li", {},
      element("a", { href: `#${each.id}` }, element("span", { class: `verb ${each.verb}` }, each.verb.toUpperCase()), " ", each.path))))));
  }
  byId("status").textContent = operations.length ? "" : "This service has no REST operations.";
  byId("filter").addEventListener("input", () => narrow(operations));
  addEventListener("hashchange", openHash);
  openHash();
}

function narrow(operations) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const each of operations) {
    const text = [each.id, each.verb, each.path, each.said.summary, each.said["x-interlock-permission"]].join(" ").toLowerCase();
    const hidden = !words.every((word) => text.includes(word));
    byId(each.id).hidden = hidden;
    document.querySelector(`nav a[href="#${each.id}"]`).parentElement.hidden = hidden;
  }
}

function openHash() {
  const found = byId(decodeURIComponent(location.hash.slice(1)));
  if (!found?.classList.contains("operation")) return;
  found.open = true;
  found.scrollIntoView();
  found.querySelector("summary").focus({ preventScroll: true });
}

function keepToken() {
  byId("token").value = sessionStorage.getItem("token") ?? "";
  byId("credentials").addEventListener("input", () => {
    sessionStorage.setItem("token", byId("token").value);
    document.dispatchEvent(new Event("credentials"));
  });
  byId("credentials").addEventListener("submit", (event) => event.preventDefault());
}

async function main() {
  keepToken();
  try {
    const answer = await fetch("openapi.json");
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    const opened = await answer.json();
    useDocument(opened);
    fill(opened);
  } catch (failed) {
    byId("status").textContent = `The OpenAPI document cannot be read: ${failed.message}`;
  }
}

main();
