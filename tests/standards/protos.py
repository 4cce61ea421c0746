"""Contracts as the rules' examples are written: a snippet becomes a file, the file an image."""

import re
from pathlib import Path

from interlock.contract.compile import compile_image
from interlock.standards import ContractRule, Finding, Report, check_image
from interlock.standards.rules import CONTRACT_RULES

IMPORTS = {
    "buf.validate": "buf/validate/validate.proto",
    "google.api.http": "google/api/annotations.proto",
    "google.protobuf.Empty": "google/protobuf/empty.proto",
    "google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
    "interlock.v1": "interlock/v1/options.proto",
}


def proto(text: str) -> str:
    """Return the snippet `text` as a whole file; its package is `api.order.v1` unless it says another one."""
    package, body = "package api.order.v1;\n", text
    if found := re.search(r"^(//[^\n]*\n)*package [^;]*;\n", text, re.MULTILINE):
        package, body = found[0], text.replace(found[0], "")
    imports = "".join(f'import "{path}";\n' for name, path in IMPORTS.items() if name in text)
    return f'syntax = "proto3";\n\n{package}\n{imports}\n{body}'


def write(root: Path, *texts: str) -> Path:
    """Write snippets below `root`, each as a file where its package belongs; return `root`."""
    for number, text in enumerate(texts):
        whole = proto(text)
        package = re.search(r"^package ([^;]*);", whole, re.MULTILINE)
        assert package
        path = root / package[1].replace(".", "/") / f"order{number or ''}.proto"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(whole)
    return root


def checked(root: Path, *texts: str, comments: bool = True) -> Report:
    """Return what all rules say of snippets; without `comments`, all but GRPC002, which wants them everywhere."""
    rules = [each for each in CONTRACT_RULES if comments or each.id != "GRPC002"]
    return check_image(compile_image([write(root, *texts)]), rules=rules)


def findings(root: Path, rule: ContractRule, *texts: str) -> list[Finding]:
    """Return what `rule` finds in snippets."""
    report = check_image(compile_image([write(root, *texts)]), rules=[rule])
    return [each for each in report.findings if each.rule == rule.id]


def method(name: str, *, request: str = "", reply: str = "Order", options: str = "", access: str = "") -> str:
    """Return a service with one method, and its request and `Order`."""
    taken = request or f"{name}Request"
    own = "" if taken.startswith("google") or taken == "Order" else f"message {taken} {{ string order_id = 1; }}\n"
    answer = f"message {reply} {{}}\n" if reply.endswith("Response") else ""
    said = access or 'permission: "orders:read"'
    return f"""\
service OrderService {{
  rpc {name}({taken}) returns ({reply}) {{
    {options}
    option (interlock.v1.method) = {{{said}}};
  }}
}}
message Order {{ string id = 1; }}
{own}{answer}"""


def get(path: str) -> str:
    """Return a route."""
    return f'option (google.api.http) = {{get: "{path}"}};'
