"""What a process reads when it starts: flags, environment, `.env`, secrets directory, `interlock.toml`, defaults.

Every field is documented by its description; the reference page and `interlock show settings` are made from them.
A service adds fields of its own by subclassing. Imported only where an app starts, so `import interlock` stays light.
"""

import difflib
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

if TYPE_CHECKING:
    from interlock.security.credentials import Credentials

__all__ = ["ByteSize", "Duration", "MissingUpstream", "Settings", "explain"]

PREFIX = "INTERLOCK_"
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_BYTES = re.compile(r"\s*(\d+)\s*(B|KiB|MiB|GiB)?\s*")
_FACTORS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, None: 1}


def _duration(value: object) -> object:
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError('a duration reads "30s", "250ms", "5m", "1h", or a number of seconds')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _BYTES.fullmatch(value)
    if match is None:
        raise ValueError('a size reads "4MiB", "512KiB", or a number of bytes')
    return int(match[1]) * _FACTORS[match[2]]


Duration = Annotated[timedelta, BeforeValidator(_duration)]
"""A length of time, not negative: "30s", "250ms", "5m", "1h", or a number of seconds."""

ByteSize = Annotated[int, BeforeValidator(_size), Field(ge=0)]
"""A number of bytes: "4MiB", "512KiB", or a plain number."""


def _names(value: object) -> object:
    return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]
"""Several names: "a,b"."""


def _origins(value: object) -> object:
    from interlock.protocols.cors import check_origin  # noqa: PLC0415 - only where origins are named

    names = _names(value)
    if not isinstance(names, list | tuple) or not names:
        return names
    found = tuple(check_origin(str(each)) for each in names)
    if "*" in found and len(found) > 1:
        raise ValueError("* is every origin; name no other beside it")
    return found


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)]
"""Several origins of scripts: "https://a.example,https://b.example", or "*"."""

Port = Annotated[int, Field(ge=0, le=65535)]


class MissingUpstream(LookupError):
    """A neighbour's address is asked for that the settings do not hold."""


class _Toml(TomlConfigSettingsSource):
    """`interlock.toml`, or the file that INTERLOCK_CONFIG names; a name that is no field is a mistake."""

    def __init__(self, settings_class: type[BaseSettings]) -> None:
        named = os.environ.get(PREFIX + "CONFIG")
        path = Path(named or "interlock.toml")
        if named and not path.is_file():
            raise SettingsError(f"{PREFIX}CONFIG (or --config) names {named}, and there is no such file")
        try:
            super().__init__(settings_class, path)
        except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError
            raise SettingsError(f"{path} is not TOML: {error}") from None
        if getattr(settings_class, "refuse_unknown", True):
            _refuse_unknown(path, self.toml_data, settings_class.model_fields)


def _refuse_unknown(path: Path, given: Iterable[str], fields: Iterable[str]) -> None:
    known = list(fields)
    wrong = [name for name in given if name not in known]
    if wrong:
        raise SettingsError("\n".join(f"{path}: {name} is no setting{_nearest(name, known)}" for name in wrong))


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class IssuerSettings(BaseModel):
    """Another issuer whose tokens are believed, such as an OpenID Connect provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1)
    audience: str = ""
    jwks: str = ""
    algorithm: Literal["RS256", "ES256", "EdDSA"] = "RS256"
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    longest: Duration = timedelta(hours=24)
    untyped: bool = False


class Settings(BaseSettings):
    """What a process of Interlock reads. Subclass it to add a service's own fields."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        validate_default=False,
        frozen=True,
    )
    refuse_unknown: ClassVar[bool] = True

    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address of the API port; 0.0.0.0 or :: for every one."
    )
    port: Port = Field(default=8080, description="The API port: gRPC, gRPC-Web, Connect and REST; 0 takes a free one.")
    operations_host: str = Field(default="127.0.0.1", min_length=1, description="Address of the operations port.")
    operations_port: Port = Field(
        default=8081, description="The operations port, for probes and scrapers: without TLS; 0 switches it off."
    )
    workers: int = Field(default=1, ge=1, le=1024, description="Worker processes that share the ports.")
    environment: Literal["development", "production"] = Field(
        default="development", description="In production a worker that hangs is replaced."
    )
    docs: bool | None = Field(
        default=None, description="Whether /docs shows the API, to be read and tried; empty: in development only."
    )
    drain_limit: Duration = Field(
        default=timedelta(seconds=30),
        description="How long calls in flight may go on once the process is told to stop.",
    )
    readiness_grace: Duration = Field(
        default=timedelta(),
        description="How long to go on accepting while already not ready, so that balancers notice.",
    )
    start_limit: Duration = Field(
        default=timedelta(seconds=60), description="How long a worker may take to become ready."
    )
    hang_limit: Duration = Field(
        default=timedelta(seconds=30), description="In production, a worker silent for so long is replaced; 0: never."
    )
    max_requests: int = Field(default=0, ge=0, description="Requests after which a worker is replaced; 0: never.")

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least level that is logged."
    )
    log_format: Literal["auto", "json", "pretty"] = Field(
        default="auto", description="json, pretty, or auto: pretty on a terminal, else json."
    )

    log_successes: float = Field(
        default=1.0, ge=0, le=1, description="Share of the calls that succeeded which are logged; failures always are."
    )
    cloudwatch: Duration = Field(
        default=timedelta(), description="How often metrics are written to stdout for CloudWatch, as EMF; 0: never."
    )

    tls_certificate: Path | None = Field(
        default=None, description="PEM certificate chain; with tls_key it switches TLS on."
    )
    tls_key: Path | None = Field(default=None, description="PEM private key of tls_certificate, not encrypted.")
    tls_client_authorities: Path | None = Field(
        default=None,
        description="PEM authorities; when set, every client must show a certificate of theirs (mutual TLS).",
    )
    tls_poll: Duration = Field(
        default=timedelta(seconds=5),
        description="How often the certificate files are looked at for a change; 0: never.",
    )

    request_bytes: ByteSize = Field(default=4 << 20, description="The largest request message or REST body.")
    reply_bytes: ByteSize = Field(default=4 << 20, description="The largest reply message.")
    header_bytes: ByteSize = Field(default=16 << 10, description="The largest header block of a request.")
    header_fields: int = Field(default=100, ge=1, description="The most header fields of a request.")
    json_depth: int = Field(default=100, ge=1, le=200, description="The deepest nesting of a JSON body.")
    query_parameters: int = Field(default=100, ge=1, description="The most query parameters of a REST request.")
    header_timeout: Duration = Field(
        default=timedelta(seconds=10), description="How long a request head may take to arrive."
    )
    body_idle_timeout: Duration = Field(
        default=timedelta(seconds=60), description="How long a request body may pause while it arrives; 0: for ever."
    )
    stream_idle_timeout: Duration = Field(
        default=timedelta(minutes=5),
        description="How long a client stream or a streamed reply may be silent; 0: for ever.",
    )
    stream_heartbeat: Duration = Field(
        default=timedelta(seconds=15),
        description="How long server-sent events are silent before a comment keeps proxies awake; 0: never.",
    )
    keep_alive: Duration = Field(default=timedelta(minutes=2), description="How long an idle connection is kept open.")
    max_connections: int = Field(
        default=0, ge=0, description="Connections of one worker; 0: as many as the system allows."
    )
    max_concurrent_streams: int = Field(default=256, ge=1, description="Calls at a time on one HTTP/2 connection.")
    stream_window_bytes: ByteSize = Field(
        default=1 << 20, ge=65535, description="How much of an unread upload is held for one stream."
    )
    connection_window_bytes: ByteSize = Field(
        default=4 << 20, ge=65535, description="How much of all unread uploads is held for one connection."
    )

    cors_origins: Origins = Field(
        default=(),
        description="Origins whose scripts may call from browsers: https://a.example,http://localhost:3000, or *.",
    )
    shed: bool = Field(default=True, description="Whether an overloaded service refuses calls at once (UNAVAILABLE).")
    shed_floor: int = Field(
        default=32, ge=1, description="Calls of one worker at a time that are never refused for being many."
    )
    shed_delay: Duration = Field(
        default=timedelta(milliseconds=500),
        description="How long calls may wait for a busy event loop before some are refused; 0: for ever.",
    )
    rate_limit_by: Literal["principal", "key", "address"] = Field(
        default="principal", description="Who has a rate limit: a principal, each of its API keys, or an address."
    )
    rate_limit_redis: SecretStr = Field(
        default=SecretStr(""), description="Redis that keeps limits across hosts (redis://host:6379/0); empty: none."
    )
    rate_limit_without_redis: Literal["open", "closed"] = Field(
        default="open",
        description="While Redis is away: each host keeps the limits by itself (open), or refuses limited calls.",
    )
    known_callers: Names = Field(
        default=(), description="Services that are counted by name as callers of what is deprecated; the rest is other."
    )

    keys: Path = Field(
        default=Path("var/keys"), description="Directory of the keys that sign tokens; `interlock keys new` makes it."
    )
    jwks: str = Field(
        default="", description="JWKS file or https:// URL that tokens are verified with; empty: jwks.json in `keys`."
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
    accounts: str = Field(
        default="",
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

    broker: str = Field(
        default="embedded:var/broker.db",
        description="Where events go: embedded:FILE, nats://HOST:PORT or amqp://HOST:PORT.",
    )

    otlp_endpoint: str = Field(default="", description="Collector of traces (http://host:4318); empty: none.")
    otlp_headers: dict[str, SecretStr] = Field(default_factory=dict, description="Headers of every export.")
    trace_ratio: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of new traces that is sampled; empty: all in development, else 0.01.",
    )
    trace_slow: Duration = Field(
        default=timedelta(seconds=2), description="A call that takes longer is recorded though not sampled; 0: never."
    )
    trace_heeds_callers: bool | None = Field(
        default=None,
        description="Whether a caller's sampling decision stands; empty: yes, but for a gateway in production.",
    )

    operations: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='Contract overrides by operation: {"api.order.v1.OrderService/GetOrder": {"timeout": "5s"}}.',
    )
    upstreams: dict[str, str] = Field(default_factory=dict, description="Addresses of neighbours, by name.")

    @property
    def docs_in_force(self) -> bool:
        """Whether the page `/docs` is there."""
        return self.environment == "development" if self.docs is None else self.docs

    @property
    def trace_ratio_in_force(self) -> float:
        """The share of new traces that is sampled."""
        if self.trace_ratio is not None:
            return self.trace_ratio
        return 1.0 if self.environment == "development" else 0.01

    def credentials(self) -> "Credentials":
        """Return what this service's clients show: the token of the caller that is served, else the service's own."""
        from interlock.security.credentials import ServiceToken, forwarded  # noqa: PLC0415 - where clients are made

        if not self.service_name:
            return forwarded()
        own = ServiceToken(
            self.service_name,
            self.service_roles,
            keys=self.keys,
            issuer=self.token_issuer,
            audience=self.token_audience,
            delegated=True,  # also for callers who came with an API key or a certificate
        )
        return own if self.acts_as == "service" else forwarded(own)

    def upstream(self, name: str) -> str:
        """Return the address of the neighbour called `name`; `MissingUpstream` tells how to set it."""
        key = re.sub(r"[^a-z0-9]", "_", name.lower())
        for candidate in (name, key):
            if candidate in self.upstreams:
                return self.upstreams[candidate]
        known = f" (known: {', '.join(sorted(self.upstreams))})" if self.upstreams else ""
        raise MissingUpstream(
            f"no address for the upstream {name!r}{known}: set {PREFIX}UPSTREAMS__{key.upper()}=host:port, "
            f"or {key} in the table [upstreams] of interlock.toml"
        )

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing = "tls_key" if self.tls_key is None else "tls_certificate"
            raise ValueError(f"TLS needs both tls_certificate and tls_key; {PREFIX}{missing.upper()} is missing")
        if self.tls_client_authorities is not None and self.tls_certificate is None:
            raise ValueError(f"mutual TLS needs a server certificate too: set {PREFIX}TLS_CERTIFICATE and _TLS_KEY")
        if self.token_endpoint and self.environment == "production":
            raise ValueError(f"{PREFIX}TOKEN_ENDPOINT is for development; elsewhere name an issuer in {PREFIX}ISSUERS")
        if self.port and self.port == self.operations_port and self.host == self.operations_host:
            raise ValueError(
                f"port and operations_port are both {self.port}; set {PREFIX}OPERATIONS_PORT to another, or to 0"
            )
        if self.stream_window_bytes > self.connection_window_bytes:
            raise ValueError("stream_window_bytes is larger than connection_window_bytes, which all streams share")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the sources in order, strongest first; the secrets directory is INTERLOCK_SECRETS or /run/secrets."""
        directory = os.environ.get(PREFIX + "SECRETS")
        if directory and not Path(directory).is_dir():
            raise SettingsError(f"{PREFIX}SECRETS names {directory}, and there is no such directory")
        if not directory and Path("/run/secrets").is_dir():
            directory = "/run/secrets"
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=directory) if directory else file_secret_settings
        return init_settings, env_settings, dotenv_settings, secrets, _Toml(settings_cls)


class ProcessSettings(Settings):
    """What the parent process reads, which knows nothing of the fields that a service added."""

    refuse_unknown: ClassVar[bool] = False


def explain(error: ValidationError | SettingsError, settings_class: type[BaseSettings] = Settings) -> str:
    """Return what is wrong with the settings, a line each, naming the variable and what to do."""
    if isinstance(error, SettingsError):
        return _explain_source(error, settings_class)
    prefix = settings_class.model_config.get("env_prefix") or ""
    lines = []
    for each in error.errors(include_url=False):
        path = [str(part) for part in each["loc"]]
        message = each["msg"].removeprefix("Value error, ")
        if not path:
            lines.append(message)
            continue
        variable = prefix + "__".join(path).upper()
        dotted = ".".join(path)
        if each["type"] == "missing":
            lines.append(f"{variable} is not set; set it in the environment or .env, or {dotted} in interlock.toml")
        else:
            lines.append(f"{variable}: {message}{_given(path[0], each['input'])} (or {dotted} in interlock.toml)")
    return "\n".join(lines)


def _given(field: str, value: object) -> str:
    """Quote a wrong value of one of our own fields; a service's own field may hold a secret."""
    known = Settings.model_fields
    return f"; it is {value!r}" if field in known and isinstance(value, str | int | float) else ""


def _explain_source(error: SettingsError, settings_class: type[BaseSettings]) -> str:
    message = str(error)
    match = re.search(r'error parsing value for field "(\w+)" from source "(\w+)"', message)
    if match is None:
        return message
    prefix = settings_class.model_config.get("env_prefix") or ""
    return (
        f"{prefix}{match[1].upper()} must be JSON, or be given by parts: {prefix}{match[1].upper()}__NAME=value"
        f" ({match[2]}: {error.__cause__})"
    )
