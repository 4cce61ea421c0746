"""What stands around a service: its broker, its collector of traces, its neighbours; and overrides of its contract."""

from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from interlock.security.secret import secret_source
from interlock.settings.values import Duration, PolicyTable
from interlock.url import Url


class ExternalSettings(BaseModel):
    """A third party's HTTP API: where it is, how long a call may take, which secret opens it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Url
    timeout: Duration = timedelta(seconds=30)
    secret: str = ""
    header: str = "authorization"
    scheme: str | None = None

    @field_validator("secret")
    @classmethod
    def _place(cls, given: str) -> str:
        if given:
            secret_source(given)
        return given


class SurroundingsSection(BaseModel):
    """The broker, traces, overrides of the contract, neighbours."""

    broker: Url = Field(
        default=Url("embedded:var/broker.db"),
        description="Where events go: embedded:FILE, nats://HOST:PORT or amqp://HOST:PORT.",
    )
    event_batch: int = Field(
        default=32,
        ge=1,
        le=256,
        description="The most consumed events that share one transaction; 1: each has its own.",
    )

    service_version: str = Field(
        default="",
        description="Version of the service in metrics and traces; empty: that of the package its code is in.",
    )
    otlp_endpoint: Url = Field(default=Url(""), description="Collector of traces (http://host:4318); empty: none.")
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
    externals: dict[str, ExternalSettings] = Field(
        default_factory=dict,
        description='HTTP APIs of others by name: {"payments": {"url": "https://…", "secret": "env:PAYMENTS_KEY"}}.',
    )
    policies: dict[str, PolicyTable] = Field(
        default_factory=dict,
        description='How calls are made, by *, upstream, external, service, operation: {"orders": {"preset": "off"}}.',
    )
