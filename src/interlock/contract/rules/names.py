"""Rules of names: every RPC becomes a Python method, beside those that a client has anyway."""

import keyword
from collections.abc import Iterator

from interlock.contract.declared import Declared, DeclaredService
from interlock.contract.mistakes import Mistake
from interlock.contract.names import snake_case

TAKEN = frozenset({"using", "call", "close", "pages", "service"})
"""What clients and services have beside their RPCs."""


def name_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield the RPCs whose Python name cannot be used."""
    for service in declared.services:
        yield from _of_service(service)


def _of_service(service: DeclaredService) -> Iterator[Mistake]:
    seen: dict[str, str] = {}
    consumers = {f"on_{each.replace('.', '_')}": each for each in service.options.subscribes}
    for rpc in service.rpcs:
        name = snake_case(rpc.method.name)
        source = rpc.place.source
        if name in seen:
            message = f"{rpc} and {seen[name]} are both `{name}` in Python"
            yield Mistake(source, message, "rename one of the two RPCs")
        elif keyword.iskeyword(name):
            message = f"{rpc} is `{name}` in Python, which is a keyword there"
            yield Mistake(source, message, f"add a noun to its name ({rpc.method.name}Orders)")
        elif name in TAKEN or name.startswith("_"):
            message = f"{rpc} is `{name}` in Python, which every client has already"
            yield Mistake(source, message, f"add a noun to its name ({rpc.method.name.lstrip('_')}Orders)")
        elif name in consumers:
            message = f"{rpc} is `{name}` in Python, as is the handler of the event {consumers[name]!r}"
            yield Mistake(source, message, "rename the RPC")
        seen.setdefault(name, str(rpc))
