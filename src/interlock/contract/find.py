"""Finds the contract that somebody means: an image, a project, or a module that carries one."""

import sys
from importlib import import_module
from pathlib import Path

from interlock.contract.generate import compile_contract
from interlock.contract.project import read_project
from interlock.contract.python.services import IMAGE
from interlock.contract.stub import ServiceStub


class NoContract(Exception):
    """Nothing by that name has a contract."""


def find_image(target: str, directory: Path) -> bytes:
    """Return the image that `target` names: a path of an image or project below `directory`, else a Python module."""
    path = directory / target
    if path.is_file():
        return path.read_bytes()
    if path.is_dir():
        project = read_project(path)
        image = project.output / IMAGE
        return image.read_bytes() if image.exists() else compile_contract(project)
    return _of_module(target, directory)


def _of_module(target: str, directory: Path) -> bytes:
    name = target.partition(":")[0]
    for each in (str(directory), str(directory / "src")):
        if each not in sys.path:
            sys.path.insert(0, each)
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise NoContract(f"{target!r} is neither a file nor a directory nor a module") from None
    for value in vars(module).values():
        stub = getattr(value, "service", value)
        if isinstance(stub, ServiceStub):
            return stub.image.path.read_bytes()
    for root in getattr(module, "__path__", ()):
        if (image := Path(root) / IMAGE).exists():
            return image.read_bytes()
    raise NoContract(f"the module {name} has no contract: name one with generated services or the generated package")
