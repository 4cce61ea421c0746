"""YAML as settings need it: plain values, no tags that make objects, no name twice, no aliases that grow."""

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses what two readers could understand differently."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not taken here: write it out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys):
            raise yaml.YAMLError(f"a name is text; quote it: {next(k for k in keys if not isinstance(k, str))!r}")
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError("a name stands in it twice")
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return what a YAML document says; ValueError for one that is malformed, or has tags, aliases or a name twice."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader, made stricter
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
