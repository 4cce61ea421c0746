"""How callers show who they are, in OpenAPI: the security schemes that a service's doors take."""

from dataclasses import dataclass

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


def schemes(taken: Credentials) -> Schema:
    """Return the security schemes by name."""
    found: Schema = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A token of an issuer that the service believes.",
        }
    }
    if taken.api_keys:
        text = "A key that stands for one caller."
        found["apiKey"] = {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": text}
    if taken.token_url:
        flow = {"tokenUrl": taken.token_url, "scopes": {}}  # they are roles of the client, which no contract knows
        text = "Gets the Bearer token with a client's id and secret; a scope is a role that the client has."
        found["oauth2"] = {"type": "oauth2", "description": text, "flows": {"clientCredentials": flow}}
        found["client"] = {"type": "http", "scheme": "basic", "description": "A client's id and secret."}
    if taken.certificates:
        found["mutualTLS"] = {"type": "mutualTLS", "description": "A client certificate of a known authority."}
    return found


def requirements(taken: Credentials) -> list[Schema]:
    """Return what a caller must show: one of these, all that stands in one together."""
    names = ["bearer", *(["apiKey"] if taken.api_keys else []), *(["oauth2"] if taken.token_url else [])]
    if taken.certificates:
        return [{"mutualTLS": []}, *({name: [], "mutualTLS": []} for name in names)]
    return [{name: []} for name in names]


def token_paths(taken: Credentials) -> Schema:
    """Return the path where tokens are given, if there is one: RFC 6749 §4.4, as a form or JSON."""
    return {taken.token_url: {"post": _TOKEN}} if taken.token_url else {}


def _answer(description: str, properties: Schema, required: list[str]) -> Schema:
    schema = {"type": "object", "properties": properties, "required": required}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_TEXT: Schema = {"type": "string"}
_ASKED: Schema = {
    "schema": {
        "type": "object",
        "properties": {
            "grant_type": {"const": "client_credentials"},
            "client_id": _TEXT | {"description": "The account; left out where it is shown as Basic."},
            "client_secret": _TEXT | {"format": "password", "writeOnly": True, "description": "An API key of it."},
            "scope": _TEXT | {"description": "Some of the account's roles, with spaces between; all where left out."},
        },
        "required": ["grant_type"],
    }
}
_REFUSED = {"error": _TEXT, "error_description": _TEXT}
_TOKEN: Schema = {
    "operationId": "issueToken",
    "summary": "Give a token for an account's API key",
    "description": "OAuth 2.0 client credentials (RFC 6749 §4.4), for development.",
    "security": [{"client": []}, {}],
    "requestBody": {
        "required": True,
        "content": {"application/x-www-form-urlencoded": _ASKED, "application/json": _ASKED},
    },
    "responses": {
        "200": _answer(
            "The token.",
            {
                "access_token": _TEXT,
                "token_type": {"const": "Bearer"},
                "expires_in": {"type": "integer", "description": "Seconds."},
                "scope": _TEXT,
            },
            ["access_token", "token_type", "expires_in", "scope"],
        ),
        "400": _answer("The request is malformed, or asks for what the account has not.", _REFUSED, ["error"]),
        "401": _answer("The client is not known, or its secret is wrong.", _REFUSED, ["error"]),
        "429": _answer("Too many secrets of this address were wrong.", _REFUSED, ["error"]),
        "503": _answer("No token can be given at the moment.", _REFUSED, ["error"]),
    },
}
