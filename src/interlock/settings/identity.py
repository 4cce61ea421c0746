"""Who asks, and who this service is: keys, issuers, accounts, roles."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from interlock.settings.values import Duration, Names
from interlock.url import Url


class IssuerSettings(BaseModel):
    """Another issuer whose tokens are believed, such as an OpenID Connect provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1)
    audience: str = ""
    jwks: Url = Url("")
    algorithm: Literal["RS256", "ES256", "EdDSA"] = "RS256"
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    longest: Duration = timedelta(hours=24)
    untyped: bool = False


class IdentitySection(BaseModel):
    """Keys, issuers, accounts, roles."""

    keys: Path = Field(
        default=Path("var/keys"), description="Directory of the keys that sign tokens; `interlock keys new` makes it."
    )
    jwks: Url = Field(
        default=Url(""),
        description="JWKS file or https:// URL that tokens are verified with; empty: jwks.json in `keys`.",
    )
    token_issuer: str = Field(default="service-auth", min_length=1, description="Who must have issued a token (iss).")
    token_audience: str = Field(default="microservices", min_length=1, description="For whom a token must be (aud).")
    token_algorithm: Literal["RS256", "ES256", "EdDSA"] = Field(
        default="RS256", description="The one signature that tokens of token_issuer may have, and that new keys make."
    )
    token_endpoint: bool = Field(
        default=False, description="Whether POST /oauth/token gives tokens for API keys; in development only."
    )
    issuers: dict[str, IssuerSettings] = Field(
        default_factory=dict,
        description='Other issuers by a name: {"corp": {"issuer": "https://…", "roles": {"scope:orders": ["clerk"]}}}.',
    )
    accounts: Url = Field(
        default=Url(""),
        description="Where service accounts and API keys are: a file, database (the service's), a URL; empty: none.",
    )
    accounts_pepper: SecretStr = Field(
        default=SecretStr(""), description="A secret that is hashed with each API key, the same in all workers."
    )
    acts_as: Literal["caller", "service"] = Field(
        default="caller",
        description="What the next service is shown: the caller's token, or the service's own that names the caller.",
    )
    roles: Path | None = Field(
        default=None,
        description="Roles file (YAML, TOML or JSON): what each role permits; without it no role permits anything.",
    )
    service_name: str = Field(default="", description="Who this service is in tokens of its own; empty: it has none.")
    service_roles: Names = Field(default=(), description="Roles in this service's own tokens: a,b.")
