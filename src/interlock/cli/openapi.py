"""`interlock show openapi`: the REST side of a contract as an OpenAPI document."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from interlock.contract.find import NoContract, find_image
from interlock.contract.gen.interlock.v1.options_pb import Exposure
from interlock.contract.load import load
from interlock.contract.model import Contract, Service
from interlock.contract.names import nearest


def openapi(
    target: Annotated[
        str, typer.Argument(metavar="[PATH|MODULE]", help="A project, an image (.binpb), or a module with one.")
    ] = ".",
    service: Annotated[
        list[str] | None, typer.Option("--service", help="Only this service, by its name; may be given again.")
    ] = None,
    external: Annotated[bool, typer.Option("--external", help="Only what a gateway lets callers reach.")] = False,
) -> None:
    """Print the OpenAPI 3.1 document of a contract, as JSON.

    It is what a service answers at /openapi.json, the same bytes each time, so that two versions can be compared. A
    service that is running adds what its settings say: other credentials, other limits.

      interlock show openapi
      interlock show openapi --service OrderService > openapi.json
      interlock show openapi shop.gen --external | jq '.paths | keys'
    """
    from interlock.contract.openapi import openapi_json

    contract = load(find_image(target, Path.cwd()))
    chosen = contract.services if not service else tuple(_service(contract, each) for each in service)
    if external:
        chosen = tuple(
            replace(each, operations=tuple(one for one in each.operations if one.exposure is Exposure.EXTERNAL))
            for each in chosen
        )
    typer.echo(openapi_json([each for each in chosen if each.operations], images=[contract.image]).decode())


def _service(contract: Contract, name: str) -> Service:
    for each in contract.services:
        if name in (each.name, each.short_name):
            return each
    known = [each.short_name for each in contract.services]
    raise NoContract(f"no service {name!r} in the contract{nearest(name, known)}; it has: {', '.join(known) or 'none'}")
