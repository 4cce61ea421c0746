"""The examples of a guide as programs: Python over the typed client, `curl` and Node.js over REST."""

import json
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from interlock.contract.gen.interlock.v1.options_pb import Idempotency
from interlock.contract.python.layout import Group, lay_out
from interlock.contract.rest_shape import page_field
from interlock.guide.literal import Names, arguments
from interlock.guide.subject import (
    Chosen,
    Route,
    Subject,
    id_field,
    id_in_reply,
    id_variable,
    python_name,
    request_of,
)

_EDGE = re.compile(r"\{([^}=]+)[^}]*\}")
MISSING_ID = "no-such-id"
INSIDE = 8  # columns before what stands in an open client


def client_class(chosen: Chosen) -> str:
    """Return the name of the generated client (`OrderServiceClient`)."""
    return f"{chosen.service.short_name}Client"


def connect(subject: Subject, chosen: Chosen) -> str:
    """Return the Python that makes a client; the other examples go on from it."""
    module = Names(subject.package).module(chosen.service.source.file, "_rpc")
    client = client_class(chosen)
    endpoint, token = subject.variable("ENDPOINT"), subject.variable("TOKEN")
    return f'''
import asyncio
import os

from interlock import Tls
from {module} import {client}


def connect() -> {client}:
    """Return a client of the service at {endpoint}, which shows the token in {token}."""
    scheme, _, target = os.environ["{endpoint}"].rstrip("/").partition("://")
    if ":" not in target:
        target += ":443" if scheme == "https" else ":80"
    client = {client}(target, tls=Tls() if scheme == "https" else None)
    token = os.environ.get("{token}")
    return client.using(metadata={{"authorization": f"Bearer {{token}}"}}) if token else client
'''


def _main(imports: Sequence[str], *body: str) -> str:
    """Return a program: `body` inside an open client, indented as written."""
    lines = [*imports, "", "", "async def main() -> None:", "    async with connect() as client:"]
    lines += [f"{' ' * INSIDE}{line}".rstrip() for text in body for line in text.splitlines()]
    return "\n".join([*lines, "", "", "asyncio.run(main())"]).strip("\n")


def retrieve_python(chosen: Chosen, route: Route) -> str:
    """Return the example that reads one resource."""
    name, method = python_name(route), route.operation.python_name
    return _main(
        ["from interlock import Error"],
        "try:",
        f'    {name} = await client.{method}({id_field(route)}=os.environ["{id_variable(chosen)}"])',
        f"    print({name})",
        "except Error as error:",
        '    raise SystemExit(f"{error.code.name}: {error.message}") from error',
    )


def create_python(subject: Subject, chosen: Chosen, route: Route) -> str:
    """Return the example that creates a resource and prints its id as a line for the shell."""
    names = Names(subject.package)
    request = route.operation.request_type.from_json(json.dumps(request_of(route)))
    given = tuple(arguments(request, names))
    call = Group(f"{python_name(route)} = await client.{route.operation.python_name}(", given, ")", one_per_line=True)
    told = f"print({python_name(route)})"
    if field := id_in_reply(chosen):
        told = f'print(f"export {id_variable(chosen)}={{{python_name(route)}.{field}}}")'
    laid_out = (line[INSIDE:] for line in lay_out(call, INSIDE // 4))  # as wide as it stands in the program
    return _main(names.imports(), *laid_out, told)


def paginate_python(route: Route) -> str:
    """Return the example that reads every item of a list."""
    items = page_field(route.operation.reply_type.desc())
    item = "item" if items is None else items.name.removesuffix("s")
    return _main(
        [],
        f"async for {item} in client.{route.operation.python_name}(page_size=100):",
        f"    print({item})",
    )


def errors_python(route: Route) -> str:
    """Return the example that tells errors apart and waits where a limit asks for it."""
    call = f'await client.{route.operation.python_name}({id_field(route)}="{MISSING_ID}")'
    return _main(
        ["from interlock import Error, NotFound, ResourceExhausted"],
        "for attempt in range(3):",
        "    try:",
        f"        {call}",
        "        break",
        "    except ResourceExhausted as limited:  # the client has waited and tried again already",
        "        wait = limited.retry_after.total_seconds() if limited.retry_after else 2.0**attempt",
        "        await asyncio.sleep(wait)",
        "    except NotFound as error:",
        '        print(f"not there: {error.message}")',
        "        break",
        "    except Error as error:",
        '        raise SystemExit(f"{error.code.name} ({error.reason}): {error.message}") from error',
        "else:",
        '    raise SystemExit("the limit did not free up")',
    )


def unit_test_python(subject: Subject, chosen: Chosen, route: Route) -> str:
    """Return a unit test whose client talks to no service."""
    names = Names(subject.package)
    reply = names.of(route.operation.reply_type.desc())
    client = client_class(chosen)
    names.use(names.module(chosen.service.source.file, "_rpc"), client)
    names.use("interlock", "Call")
    names.use("interlock", "Handler")
    names.use("interlock", "Operation")
    method = f'{route.operation.python_name}({id_field(route)}="an-id")'
    return "\n".join(
        (
            "import unittest",
            "",
            *names.imports(),
            "",
            "",
            "class Answers:",
            '    """A transport that answers by itself."""',
            "",
            "    def handler(self, operation: Operation) -> Handler:",
            f"        async def answer(call: Call) -> {reply}:",
            f"            return {reply}()",
            "",
            "        return answer",
            "",
            "    async def close(self) -> None:",
            "        pass",
            "",
            "",
            f"class {chosen.service.short_name}Test(unittest.IsolatedAsyncioTestCase):",
            f"    async def test_{route.operation.python_name}(self) -> None:",
            f"        async with {client}(Answers()) as client:",
            f"            self.assertEqual(await client.{method}, {reply}())",
            "",
            "",
            'if __name__ == "__main__":',
            "    unittest.main()",
        )
    )


def curl(subject: Subject, route: Route, *, path: str = "", options: str = "--fail-with-body", query: str = "") -> str:
    """Return a `curl` of the route; `path` replaces its template, a body comes from the contract's example."""
    parts = [f"curl --silent --show-error {options}".rstrip()]
    if route.binding.verb != "GET":
        parts.append(f"-X {route.binding.verb}")
    parts += [f'-H "{each}"' for each in headers(subject, route)]
    if route.binding.body:
        parts.append(f"-d {_quoted(body_of(route))}")
    parts.append(f'"${subject.variable("ENDPOINT")}{path or shell_path(route)}{query}"')
    return " \\\n  ".join(parts)


def curl_status(subject: Subject, route: Route, path: str, query: str = "") -> str:
    """Return a `curl` that prints nothing but the HTTP status."""
    return curl(subject, route, path=path, query=query, options="--output /dev/null --write-out '%{http_code}\\n'")


def headers(subject: Subject, route: Route) -> list[str]:
    """Return the request headers that a route needs, as the shell expands them."""
    found = []
    if not route.operation.unauthenticated:
        found.append(f"Authorization: Bearer ${subject.variable('TOKEN')}")
    if route.binding.body:
        found.append("Content-Type: application/json")
    if route.operation.idempotency is Idempotency.KEYED:
        found.append("Idempotency-Key: guide-$(date +%s)-$$")
    return found


def shell_path(route: Route) -> str:
    """Return the path with each variable taken from the environment (`/api/v1/orders/$ORDER_ID`)."""
    return _EDGE.sub(lambda found: f"${found[1].replace('.', '_').upper()}", str(route.binding.template))


def path_to(route: Route, value: str) -> str:
    """Return the path with `value` in place of each variable."""
    return _EDGE.sub(quote(value), str(route.binding.template))


def body_of(route: Route) -> Any:
    """Return the JSON body of a request: the whole of it, or the field that is bound, without what the path says."""
    request = request_of(route)
    if route.binding.body != "*":
        return request.get(route.binding.body, {})
    bound = {each.field for each in route.binding.template.variables}
    return {name: value for name, value in request.items() if name not in bound}


def _quoted(body: Any) -> str:
    text = json.dumps(body, ensure_ascii=False, indent=2)
    return "'" + text.replace("'", "'\\''") + "'"


def connect_node(subject: Subject) -> str:
    """Return the Node.js that makes a client of `fetch`, which Node 18 and later have."""
    endpoint, token = (f"process.env.{subject.variable(each)}" for each in ("ENDPOINT", "TOKEN"))
    return f"""
async function call(method, path, body) {{
  const headers = {{ "Content-Type": "application/json" }};
  if ({token}) headers.Authorization = `Bearer ${{{token}}}`;
  const reply = await fetch({endpoint} + path, {{
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: AbortSignal.timeout(30000),
  }});
  const text = await reply.text();
  const answer = text ? JSON.parse(text) : {{}};
  if (!reply.ok) throw new Error(`${{answer.error.code}}: ${{answer.error.message}}`);
  return answer;
}}
"""


def retrieve_node(route: Route) -> str:
    """Return the example that reads one resource, for Node.js."""
    path = _EDGE.sub(lambda found: f"${{process.env.{found[1].upper()}}}", str(route.binding.template))
    return f"""
try {{
  const reply = await call("GET", `{path}`);
  console.log(reply.data);
}} catch (error) {{
  console.error(`Error: ${{error.message}}`);
  process.exitCode = 1;
}}
"""
