"""The settings of a process: the sections joined, what must hold between them, and what follows from them."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from interlock.contract.names import nearest
from interlock.contract.policies import Said, read_policy
from interlock.settings.bounds import BoundsSection
from interlock.settings.identity import IdentitySection
from interlock.settings.process import ProcessSection
from interlock.settings.sources import PREFIX, Toml, secrets_directory
from interlock.settings.surroundings import SurroundingsSection

if TYPE_CHECKING:
    from interlock.outbound import External
    from interlock.resilience.policies import Target
    from interlock.security.credentials import Credentials


class MissingUpstream(LookupError):
    """A neighbour's address is asked for that the settings do not hold."""


# fields stand in the order of the bases, the last base's first
class Settings(SurroundingsSection, IdentitySection, BoundsSection, ProcessSection, BaseSettings):
    """What a process of Interlock reads. Subclass it to add a service's own fields."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        validate_default=False,
        hide_input_in_errors=True,  # what is wrong may be a secret
        frozen=True,
    )
    refuse_unknown: ClassVar[bool] = True

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

    def upstream(self, name: str) -> "Target":
        """Return the address of the neighbour called `name`; `MissingUpstream` tells how to set it.

        It is a text that knows what `policies` say, so that a client made of it calls as they say.
        """
        from interlock.resilience.policies import Target  # noqa: PLC0415 - where clients are made

        key = _key(name)
        for candidate in (name, key):
            if candidate in self.upstreams:
                return Target(self.upstreams[candidate], candidate, self.policies_for(candidate))
        known = f" (known: {', '.join(sorted(self.upstreams))})" if self.upstreams else ""
        raise MissingUpstream(
            f"no address for the upstream {name!r}{known}: set {PREFIX}UPSTREAMS__{key.upper()}=host:port, "
            f"or {key} in the table [upstreams] of interlock.toml"
        )

    def external(self, name: str) -> "External":
        """Return what is set of the third party called `name`, for an `HttpClient`.

        `MissingUpstream` tells how to set it.
        """
        from interlock.outbound import External  # noqa: PLC0415 - where such a client is made
        from interlock.security.secret import WatchedSecret, secret_source  # noqa: PLC0415
        from interlock.security.secret_header import SecretHeader  # noqa: PLC0415

        key = _key(name)
        found = self.externals.get(name) or self.externals.get(key)
        if found is None:
            known = f" (known: {', '.join(sorted(self.externals))})" if self.externals else ""
            raise MissingUpstream(
                f"nothing is set of the external {name!r}{known}: set {PREFIX}EXTERNALS__{key.upper()}__URL=https://…, "
                f"or url in the table [externals.{key}] of interlock.toml"
            )
        secret = WatchedSecret(secret_source(found.secret), f"the secret of {name}") if found.secret else None
        return External(
            name=name,
            url=found.url.reveal(),
            timeout=found.timeout,
            credentials=SecretHeader(secret, header=found.header, scheme=found.scheme) if secret else None,
            policies=self.policies_for(name),
        )

    def policies_for(self, name: str) -> Mapping[str, Said]:
        """Return `policies`, read, where what concerns `name`, or a verb of it, stands under that spelling."""
        found = {}
        for each, given in self.policies.items():
            target, slash, verb = each.partition("/")
            found[f"{name}{slash}{verb}" if _key(target) == _key(name) else each] = read_policy(given)
        return found

    @model_validator(mode="after")
    def _policies_concern_somebody(self) -> "Settings":
        """Tell of a policy for a target that is not set; services and operations are known to their clients alone."""
        known = [*self.upstreams, *self.externals]
        for name in self.policies:
            plain = not {"/", ".", ":", "*", "?", "["} & set(name)
            if plain and _key(name) not in map(_key, known):
                raise ValueError(
                    f"{PREFIX}POLICIES: no upstream or external is called {name!r}{nearest(name, known)}; "
                    "a service is named in full (api.order.v1.OrderService), everything is *"
                )
        return self

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
        directory = secrets_directory()
        secrets = SecretsSettingsSource(settings_cls, secrets_dir=directory) if directory else file_secret_settings
        return init_settings, env_settings, dotenv_settings, secrets, Toml(settings_cls)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


class ProcessSettings(Settings):
    """What the parent process reads, which knows nothing of the fields that a service added."""

    refuse_unknown: ClassVar[bool] = False
