// A request: made of a form's values, written as a curl line, sent, and its reply read as it comes.

export function makeRequest(operation, values, credentials) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = {};
  for (const parameter of operation.parameters) {
    const value = values.get(parameter) ?? "";
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, several(parameter, value));
    else if (value !== "" && parameter.in === "query") for (const each of listed(parameter, value)) query.append(parameter.name, each);
    else if (value !== "") headers[parameter.name] = value;
  }
  if (values.accept) headers.Accept = values.accept;
  if (values.body !== undefined) headers["Content-Type"] = values.contentType;
  if (credentials.token && !operation.open) headers.Authorization = `Bearer ${credentials.token}`;
  if (credentials.apiKey && !operation.open) headers["X-API-Key"] = credentials.apiKey;
  const asked = query.toString();
  const url = new URL(path.replace(/^\//, "") + (asked ? `?${asked}` : ""), operation.server);
  return { method: operation.verb.toUpperCase(), url: url.href, headers, body: values.body };
}

// A variable of several segments keeps its slashes.
function several(parameter, value) {
  return parameter.description?.includes("Of the form") ? value.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(value);
}

function listed(parameter, value) {
  return parameter.schema?.type === "array" ? value.split(",").map((each) => each.trim()) : [value];
}

export function curl(request, hidden) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl"];
  if (request.method !== "GET") parts.push("-X", request.method);
  parts.push(quoted(request.url));
  for (const [name, value] of Object.entries(request.headers)) {
    const shown = hidden && name === "Authorization" ? "Bearer $TOKEN" : hidden && name === "X-API-Key" ? "$API_KEY" : value;
    parts.push("-H", shown.includes("$") && shown !== value ? `"${name}: ${shown}"` : quoted(`${name}: ${value}`));
  }
  if (request.body !== undefined) parts.push("--data-raw", quoted(compact(request.body)));
  return parts.join(" ");
}

function compact(body) {
  try {
    return JSON.stringify(JSON.parse(body));
  } catch {
    return body;
  }
}

// Calls `came` with the reply's head, then with each piece of its text; returns the milliseconds that it took.
export async function send(request, signal, came) {
  const started = performance.now();
  const answer = await fetch(request.url, {
    method: request.method, headers: request.headers, body: request.body, signal, cache: "no-store", credentials: "omit", redirect: "error",
  });
  const type = answer.headers.get("content-type") ?? "";
  came({ status: answer.status, text: answer.statusText, headers: [...answer.headers], type });
  if (!/json|text|event-stream|^$/.test(type)) {
    const bytes = await answer.arrayBuffer();
    came({ piece: `${bytes.byteLength} bytes of ${type}` });
  } else if (answer.body) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) came({ piece: next.value });
  }
  return performance.now() - started;
}
