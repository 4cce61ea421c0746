"""A Compose file that runs a platform with PostgreSQL and NATS on one machine, and the Dockerfile of its image."""

from collections.abc import Mapping
from typing import Any

from interlock.deploy.documents import HEAD, written
from interlock.deploy.inputs import API_PORT, OPERATIONS_PORT, Deployment, Workload

POSTGRES = "postgres:17-alpine"
NATS = "nats:2.12-alpine"

DOCKERFILE = """\
{head}# Build from the project's directory: docker build -t {image} -f {path} .

FROM python:{python}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /venv
WORKDIR /build
COPY . .
RUN /venv/bin/pip install . "interlock[postgres,nats]"

FROM python:{python}-slim
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app \\
 && mkdir -p /app/var && chown app:app /app/var
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
USER 10001:10001
EXPOSE {api} {operations}
# PID 1 takes SIGTERM itself and drains
ENTRYPOINT ["interlock"]
CMD ["serve", "{target}"]
"""

IGNORED = """\
var
.env
**/*.env
**/*.pem
**/*.key
.git
.venv
**/__pycache__
**/*.db*
deploy
tests
"""


def dockerfile(deployment: Deployment, path: str = "Dockerfile") -> str:
    """Return a Dockerfile: built in one stage, run without root in another, one image for all workloads."""
    front = next(each for each in deployment.workloads if each.gateway)
    return DOCKERFILE.format(
        head=HEAD.format(command="dockerfile"),
        image=deployment.image,
        path=path,
        python=deployment.python,
        api=API_PORT,
        operations=OPERATIONS_PORT,
        target=front.target,
    )


def dockerignore() -> str:
    """Return what is kept away from the build: keys, secrets and databases first of all."""
    return HEAD.format(command="dockerfile") + IGNORED


def compose(deployment: Deployment) -> str:
    """Return a Compose file; the gateway is the one that the host reaches, on 127.0.0.1."""
    services: dict[str, Any] = {"postgres": _postgres(deployment), "nats": _nats()}
    for workload in deployment.workloads:
        services[deployment.host(workload.name)] = _service(deployment, workload)
    document = {"name": deployment.name, "services": services, "volumes": {"postgres": {}, "nats": {}}}
    return written("compose", [document])


def _service(deployment: Deployment, workload: Workload) -> Mapping[str, Any]:
    grace = deployment.drain_limit + deployment.readiness_grace
    waits = {name: {"condition": "service_healthy"} for name in ("postgres", "nats")}
    waits |= {deployment.host(name): {"condition": "service_started"} for name in workload.calls if workload.gateway}
    ports = {"ports": [f"127.0.0.1:{API_PORT}:{API_PORT}"]} if workload.gateway else {}
    return {
        "image": deployment.image,
        "command": ["serve", workload.target],
        "environment": deployment.environment(workload),
        "env_file": [{"path": f"{workload.name}.env", "required": False}],
        "depends_on": waits,
        **ports,
        "read_only": True,
        "tmpfs": ["/tmp", "/app/var:uid=10001,gid=10001"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "stop_grace_period": f"{grace.total_seconds() + 10:g}s",
        "restart": "unless-stopped",
    }


def _postgres(deployment: Deployment) -> Mapping[str, Any]:
    return {
        "image": POSTGRES,
        "environment": {
            "POSTGRES_USER": deployment.name,
            "POSTGRES_PASSWORD": "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD in .env}",
        },
        "volumes": ["postgres:/var/lib/postgresql/data"],
        "healthcheck": {"test": ["CMD-SHELL", f"pg_isready -U {deployment.name}"], "interval": "2s", "retries": 30},
    }


def _nats() -> Mapping[str, Any]:
    return {
        "image": NATS,
        "command": ["--jetstream", "--store_dir", "/data", "--http_port", "8222"],
        "volumes": ["nats:/data"],
        "healthcheck": {"test": ["CMD", "wget", "-qO-", "http://127.0.0.1:8222/healthz"], "interval": "2s"},
    }
