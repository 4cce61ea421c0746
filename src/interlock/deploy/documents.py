"""YAML that is the same bytes every time, with a first line that says where it comes from."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

HEAD = (
    "# Written by `interlock deploy {command}` from the contract and deploy.toml; change those, then write it anew.\n"
)


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - what stands twice is written twice
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - lists go in
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Plain.add_representer(str, _text)


def written(command: str, documents: Iterable[Mapping[str, Any]]) -> str:
    """Return `documents` as one YAML text; keys keep their order."""
    bodies = [yaml.dump(each, Dumper=_Plain, sort_keys=False, width=10_000) for each in documents]
    return HEAD.format(command=command) + "---\n".join(bodies)
