"""The contract's REST side as an OpenAPI 3.1 document, the same bytes each time."""

import json
from collections.abc import Iterable

from interlock.contract.comments import comments
from interlock.contract.json_schema import Schemas, reachable
from interlock.contract.model import Contract, HttpBinding, Service
from interlock.contract.openapi_access import Credentials, requirements, schemes, token_paths
from interlock.contract.openapi_operations import OperationWriter, fill, shape
from interlock.contract.openapi_replies import ERROR, HEADERS, META, SHARED, failures, shared_responses
from interlock.contract.path_template import PathTemplate
from interlock.contract.validation_schema import Schema

__all__ = ["Credentials", "openapi", "openapi_json"]

_NOBODY = Credentials()


def openapi(
    described: Contract | Iterable[Service],
    *,
    images: Iterable[bytes] = (),
    title: str = "",
    version: str = "",
    description: str = "",
    credentials: Credentials = _NOBODY,
) -> Schema:
    """Return the OpenAPI 3.1 document of a contract, or of some services.

    The comments of messages and fields are in the contract's image; beside services, `images` says where. The title
    names the services and the version is that of the first one's API, unless given; `credentials` are what its doors
    take beside Bearer tokens.
    """
    if isinstance(described, Contract):
        chosen, images = list(described.services), [described.image, *images]
    else:
        chosen = list(described)
    known = {name: text for image in images for name, text in comments(image).items()}
    operations = [(service, each) for service in chosen for each in service.operations if not each.kind.client_streams]
    served = [operation for _, operation in operations if operation.http]
    replied = set().union(*(reachable(each.reply_type.desc()) for each in served))
    schemas = Schemas(known, replied=replied, reserved=(META, ERROR))
    labels = _labels(chosen)
    writer = OperationWriter(_path_names(each for operation in served for each in operation.http), schemas, labels)
    names = writer.names
    paths: dict[str, Schema] = {}
    for service, operation in operations:
        for index, binding in enumerate(operation.http):
            item = paths.setdefault(_path(binding.template, names), {})
            item[binding.verb.lower()] = writer.operation(service, operation, index)
    return {
        "openapi": "3.1.0",
        "info": _info(chosen, title, version, description),
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [_tag(each, labels) for each in chosen if any(one in served for one in each.operations)],
        "security": requirements(credentials),
        "paths": paths | token_paths(credentials),
        "components": {
            "schemas": {**(SHARED if served else {}), **schemas.components},
            "responses": shared_responses(
                {each for one in served for http in one.http for each in failures(one, http)}
            ),
            "headers": _used(HEADERS, paths),
            "securitySchemes": schemes(credentials),
        },
    }


def openapi_json(
    described: Contract | Iterable[Service],
    *,
    images: Iterable[bytes] = (),
    title: str = "",
    credentials: Credentials = _NOBODY,
) -> bytes:
    """Return the document as the bytes that `/openapi.json` answers with, the same ones each time."""
    document = openapi(described, images=images, title=title, credentials=credentials)
    return json.dumps(document, ensure_ascii=False, indent=2).encode()


def _info(chosen: list[Service], title: str, version: str, description: str) -> Schema:
    first = chosen[0] if chosen else None
    info: Schema = {
        "title": title or ", ".join(each.short_name for each in chosen) or "no services",
        "version": version or (first.version if first else "") or "1.0",
    }
    if text := description or (first.comment if first and len(chosen) == 1 else ""):
        info["description"] = text
    return info


def _labels(chosen: list[Service]) -> dict[str, str]:
    """Return what each service is called: its short name, its full one where two packages have the same."""
    short = [each.short_name for each in chosen]
    return {
        each.name: each.name.replace(".", "_") if short.count(each.short_name) > 1 else each.short_name
        for each in chosen
    }


def _tag(service: Service, labels: dict[str, str]) -> Schema:
    return {"name": labels[service.name], "description": service.comment or service.name}


def _used(headers: dict[str, Schema], paths: dict[str, Schema]) -> dict[str, Schema]:
    """Return the headers that some reply has; those of errors are always among them."""
    text = json.dumps(paths)
    always = ("RequestId", "RetryAfter", "RateLimit", "RateLimitPolicy", "WWWAuthenticate") if paths else ()
    return {name: each for name, each in headers.items() if name in always or f'"#/components/headers/{name}"' in text}


def _path_names(bindings: Iterable[HttpBinding]) -> dict[str, tuple[str, ...]]:
    """Return the variables' names for each shape of path: paths that differ in names only are one to OpenAPI."""
    found: dict[str, tuple[str, ...]] = {}
    for binding in bindings:
        names = tuple(each.field for each in binding.template.variables)
        known = found.setdefault(shape(binding.template), names)
        if any("." in name for name in known) and not any("." in name for name in names):
            found[shape(binding.template)] = names
    return found


def _path(template: PathTemplate, names: dict[str, tuple[str, ...]]) -> str:
    return fill(template, names[shape(template)])
