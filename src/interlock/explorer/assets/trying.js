// The form with which an operation is tried, and the reply below it.
import { element } from "./elements.js";
import { curl, makeRequest, send } from "./request.js";
import { nameOfType, rules, sample } from "./schema.js";

const LONGEST = 200_000;

export function trying(operation, credentials) {
  const inputs = new Map();
  const form = element("form", { class: "try", "aria-label": `Try ${operation.id}` }, element("h3", {}, "Try it"));
  const rows = element("div", { class: "inputs" });
  for (const parameter of operation.parameters) {
    const id = `${operation.id}-${parameter.in}-${parameter.name}`;
    const input = inputFor(parameter, id);
    inputs.set(parameter, input);
    rows.append(element("label", { for: id }, element("code", {}, parameter.name), parameter.required ? " *" : ""), input);
  }
  form.append(rows);
  const body = operation.body ? bodyOf(operation, form) : null;
  const accept = operation.accepts.length > 1 ? element("select", { "aria-label": "Accept" }, operation.accepts.map((each) => element("option", {}, each))) : null;
  const go = element("button", { type: "submit" }, "Send");
  const stop = element("button", { type: "button", class: "quiet", hidden: true }, "Stop");
  const copy = element("button", { type: "button", class: "quiet" }, "Copy");
  const line = element("pre", { class: "curl", tabindex: "0", "aria-label": "The same with curl" });
  const reply = element("div", { class: "reply", "aria-live": "polite" });
  form.append(element("div", { class: "buttons" }, go, stop, accept), element("div", { class: "line" }, line, copy), reply);

  const request = () => {
    const values = new Map([...inputs].map(([parameter, input]) => [parameter, input.value]));
    if (body) Object.assign(values, { body: body.text.value, contentType: body.type.value });
    if (accept) values.accept = accept.value;
    return makeRequest(operation, values, credentials());
  };
  const show = () => { line.textContent = curl(request(), true); };
  form.addEventListener("input", show);
  form.addEventListener("change", show);
  document.addEventListener("credentials", show);
  copy.addEventListener("click", () => copied(copy, curl(request(), false), line));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(request(), reply, go, stop);
  });
  show();
  return form;
}

function inputFor(parameter, id) {
  const schema = parameter.schema ?? {};
  const value = parameter.required ? preset(parameter, schema) : (parameter.example ?? "");
  const choices = schema.enum?.filter((each) => typeof each === "string");
  if (choices?.length || schema.type === "boolean") {
    const options = ["", ...(choices ?? ["true", "false"])];
    return element("select", { id, required: parameter.required }, options.map((each) => element("option", { value: each, selected: each === value }, each)));
  }
  const says = [nameOfType(schema), rules(schema)].filter(Boolean).join("; ");
  return element("input", { id, value, required: parameter.required, placeholder: says, title: says, spellcheck: "false", autocomplete: "off" });
}

function preset(parameter, schema) {
  if (parameter.name === "Idempotency-Key") return newKey();
  if (parameter.example !== undefined) return parameter.example;
  const made = sample(schema);
  return made === null || made === undefined ? "" : String(made);
}

// `crypto.randomUUID` is there only where the page came over TLS or from this machine.
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((each) => each.toString(16).padStart(2, "0")).join("");
}

function bodyOf(operation, form) {
  const id = `${operation.id}-body`;
  const text = element("textarea", { id, spellcheck: "false", class: "mono" });
  const examples = Object.entries(operation.body.examples);
  const type = element("select", { "aria-label": "Content-Type" }, operation.body.types.map((each) => element("option", {}, each)));
  text.value = JSON.stringify(examples.length ? examples[0][1].value : sample(operation.body.schema), null, 2);
  text.rows = Math.min(24, text.value.split("\n").length + 1);
  const beside = element("div", { class: "buttons" }, element("label", { for: id }, "Body"), type);
  if (examples.length > 1) {
    const choose = element("select", { "aria-label": "Example" }, examples.map(([name]) => element("option", {}, name)));
    choose.addEventListener("change", () => { text.value = JSON.stringify(operation.body.examples[choose.value].value, null, 2); });
    beside.append(choose);
  }
  form.append(beside, text);
  return { text, type };
}

async function copied(button, text, line) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    line.textContent = text;
    getSelection().selectAllChildren(line);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

async function ask(request, reply, go, stop) {
  const ending = new AbortController();
  const end = () => ending.abort();
  stop.addEventListener("click", end, { once: true });
  go.disabled = true;
  stop.hidden = false;
  const status = element("p", { class: "status" }, "Waiting …");
  const headers = element("pre", { class: "headers", tabindex: "0" });
  const body = element("pre", { class: "answer", tabindex: "0" });
  reply.replaceChildren(status, element("details", {}, element("summary", {}, "Headers"), headers), body);
  let type = "";
  try {
    const took = await send(request, ending.signal, (part) => {
      if (part.piece !== undefined) {
        if (body.textContent.length < LONGEST) body.append(part.piece);
        return;
      }
      type = part.type;
      status.replaceChildren(element("span", { class: part.status < 400 ? "good" : "bad" }, `${part.status} ${part.text}`));
      headers.textContent = part.headers.map(([name, value]) => `${name}: ${value}`).join("\n");
    });
    status.append(` in ${took.toFixed(0)} ms`);
    if (type.startsWith("application/json")) body.textContent = JSON.stringify(JSON.parse(body.textContent), null, 2);
  } catch (failed) {
    const text = ending.signal.aborted ? "Stopped." : `No answer: ${failed.message}. Is the service there, and does it allow this origin?`;
    status.append(" ", element("span", { class: "bad" }, text));
  }
  stop.removeEventListener("click", end);
  go.disabled = false;
  stop.hidden = true;
}
