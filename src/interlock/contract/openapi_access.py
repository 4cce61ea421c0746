"""How callers show who they are, in OpenAPI: the security schemes that a service's doors take."""

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.contract.model import Operation
from interlock.contract.validation_schema import Schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the doors of a service take beside Bearer tokens, which all of them take.

    `token_url` is where a client gets a token for its id and secret (OAuth 2.0 client credentials); with
    `certificates` every connection needs one, and it may be all that a caller shows.
    """

    api_keys: bool = False
    token_url: str = ""
    certificates: bool = False


def schemes(taken: Credentials, operations: Iterable[Operation]) -> Schema:
    """Return the security schemes by name."""
    found: Schema = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A service token, signed with RS256.",
        }
    }
    if taken.api_keys:
        text = "A key that stands for one caller."
        found["apiKey"] = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": text}
    if taken.token_url:
        scopes = {each.permission: "" for each in sorted(operations, key=str) if each.permission}
        flow = {"tokenUrl": taken.token_url, "scopes": dict(sorted(scopes.items()))}
        text = "Gets the Bearer token with a client's id and secret."
        found["oauth2"] = {"type": "oauth2", "description": text, "flows": {"clientCredentials": flow}}
    if taken.certificates:
        found["mutualTLS"] = {"type": "mutualTLS", "description": "A client certificate of a known authority."}
    return found


def requirements(taken: Credentials) -> list[Schema]:
    """Return what a caller must show: one of these, all that stands in one together."""
    names = ["bearer", *(["apiKey"] if taken.api_keys else []), *(["oauth2"] if taken.token_url else [])]
    if taken.certificates:
        return [{"mutualTLS": []}, *({name: [], "mutualTLS": []} for name in names)]
    return [{name: []} for name in names]
