"""The rule of examples: each is the JSON of its message."""

import re
from collections.abc import Iterator

from protobuf import DescMessage

from interlock.contract.declared import DeclaredRpc
from interlock.contract.mistakes import Mistake

DEEPEST = 100  # much deeper, protobuf-py's parser ends the process

_STRING = re.compile(r'"(?:\\.|[^"\\])*"')


def example_mistakes(rpc: DeclaredRpc) -> Iterator[Mistake]:
    """Yield the examples of `rpc` that are not what they show."""
    for index, each in enumerate(rpc.options.examples):
        sides = (("request", each.request, rpc.method.input), ("reply", each.reply, rpc.method.output))
        for side, text, message_type in sides:
            if problem := _json_problem(text, message_type, optional=side == "reply"):
                message = f"{rpc}: the {side} of example {each.name!r} is no {message_type.name}: {problem}"
                remedy = "write the message as JSON, with the fields' proto names"
                yield Mistake(rpc.where("examples", index), message, remedy)


def _json_problem(text: str, message: DescMessage, *, optional: bool) -> str:
    if not text:
        return "" if optional else "it is empty"
    if _depth(text) > DEEPEST:
        return f"it is nested more than {DEEPEST} deep"
    try:
        message.type.from_json(text)
    except Exception as error:  # protobuf-py raises several kinds
        return str(error).partition("\n")[0]
    return ""


def _depth(text: str) -> int:
    deepest = depth = 0
    for char in _STRING.sub("", text):
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    return deepest
