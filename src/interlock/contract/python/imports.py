"""The imports of one generated module: asked for a name, gives how the module writes it, and collects the lines."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator

from protobuf import DescEnum, DescFile, DescMessage
from protobuf.plugin import Ident, Module

from interlock.contract.modules import package_of
from interlock.contract.python.layout import INDENT, WIDTH


class Imports:
    """Collects imports; a name that is taken already gets an underscore (`Image as Image_`)."""

    def __init__(self, file: DescFile, taken: Iterable[str]) -> None:
        self._file = file
        self._owner: dict[str, tuple[str, str]] = {name: ("", name) for name in taken}
        self._modules: dict[str, dict[str, str]] = defaultdict(dict)

    def reserve(self, module: str, *names: str) -> None:
        """Keep `names` for that module, so that no message takes them; nothing is imported yet."""
        for name in names:
            self._owner.setdefault(name, (module, name))

    def use(self, module: str, name: str) -> str:
        """Import `name` from `module`; return how it is written here."""
        alias = name
        while self._owner.setdefault(alias, (module, name)) != (module, name):
            alias += "_"
        self._modules[module][name] = alias
        return alias

    def type(self, desc: DescMessage | DescEnum) -> str:
        """Import the class of a message or enum; return how it is written here, a nested one with its parents."""
        ident = Ident.for_desc(desc)
        outer, dot, rest = ident.name.partition(".")
        return f"{self.use(self._module(desc.file, ident), outer)}{dot}{rest}"

    def lines(self) -> Iterator[str]:
        """Yield the import statements, grouped and sorted."""
        groups: dict[int, list[str]] = defaultdict(list)
        for module in sorted(self._modules, key=lambda each: (each.lstrip("."), each)):
            groups[_group(module)] += _statement(module, self._modules[module])
        for number in sorted(groups):
            yield from groups[number]
            yield ""

    def _module(self, file: DescFile, ident: Ident) -> str:
        path = ident.module.path.removeprefix(".")
        if package := package_of(file.name):
            return f"{package}.{path}"
        here = Module.for_desc(self._file, "_rpc").path.removeprefix(".").split(".")[:-1]
        there = path.split(".")
        shared = 0
        while shared < min(len(here), len(there) - 1) and here[shared] == there[shared]:
            shared += 1
        return "." * (len(here) - shared + 1) + ".".join(there[shared:])


def _group(module: str) -> int:
    if module.startswith("."):
        return 2
    return 0 if module.partition(".")[0] in sys.stdlib_module_names else 1


def _statement(module: str, names: dict[str, str]) -> list[str]:
    ordered = sorted(names, key=lambda name: (not name.isupper() or len(name) == 1, not name[:1].isupper(), name))
    written = [name if names[name] == name else f"{name} as {names[name]}" for name in ordered]
    line = f"from {module} import {', '.join(written)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"{INDENT}{each}," for each in written), ")"]
