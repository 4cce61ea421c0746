"""How a process runs: its ports, workers, logs and certificates."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from interlock.settings.values import Duration, Port


class ProcessSection(BaseModel):
    """Ports, workers, logs and certificates."""

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
