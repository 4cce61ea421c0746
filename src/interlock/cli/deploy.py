"""`interlock deploy …`: what runs a platform elsewhere, written from the contract and deploy.toml."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from interlock.deploy import Deployment

Directory = Annotated[Path, typer.Argument(help="The project, whose pyproject.toml has [tool.interlock].")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where files go; else deploy/ in the project.")
]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is stale, missing or left over.")]
Show = Annotated[bool, typer.Option("--print", help="Print the files instead of writing them.")]


def kubernetes(
    directory: Directory = Path(), *, output: Output = None, check: Check = False, show: Show = False
) -> None:
    """Write Kubernetes manifests: a file for each service and the gateway.

    Each has a Deployment with probes and a drain that agrees with the settings, a Service (headless, so that clients
    spread over pods), a PodDisruptionBudget, a HorizontalPodAutoscaler, a NetworkPolicy from the contract's `calls`,
    and a ServiceMonitor. What the contract can't know stands in deploy.toml.

      interlock deploy kubernetes                  deploy/kubernetes/*.yaml
      interlock deploy kubernetes --check          in continuous integration
      interlock deploy kubernetes --print | kubectl apply -f -
    """
    from interlock.deploy import kubernetes as manifests

    _conclude(directory, output, check, show, lambda deployment: _below("kubernetes", manifests(deployment)))


def compose(directory: Directory = Path(), *, output: Output = None, check: Check = False, show: Show = False) -> None:
    """Write a Compose file: the platform with PostgreSQL and NATS on one machine.

    interlock deploy compose && docker compose -f deploy/compose.yaml up
    """
    from interlock.deploy import compose as composed

    _conclude(directory, output, check, show, lambda deployment: {"compose.yaml": composed(deployment)})


def dockerfile(
    directory: Directory = Path(), *, output: Output = None, check: Check = False, show: Show = False
) -> None:
    """Write a Dockerfile: built in stages, run without root, one image for every service.

    The project is installed as its pyproject.toml says; files that it reads at run time must be part of its wheel. What
    stands in Dockerfile.dockerignore, keys and databases among it, does not reach the build.

    interlock deploy dockerfile && docker build -f deploy/Dockerfile .
    """
    from interlock.deploy import dockerfile as image
    from interlock.deploy import dockerignore

    def files(deployment: "Deployment") -> dict[str, str]:
        return {"Dockerfile": image(deployment, "deploy/Dockerfile"), "Dockerfile.dockerignore": dockerignore()}

    _conclude(directory, output, check, show, files)


def alerts(directory: Directory = Path(), *, output: Output = None, check: Check = False, show: Show = False) -> None:
    """Write Prometheus rules: what the standard and the contract's objectives promise, recorded and alerted.

    Success, errors, response time, quota and age of credentials by the standard's thresholds; how fast the error budget
    burns, over two windows each; the latency that the contract promises for each operation. Beside them stands an
    Alertmanager configuration to begin with.

      interlock deploy alerts && promtool check rules deploy/alerts.yaml
    """
    from interlock.deploy import alertmanager
    from interlock.deploy import alerts as rules

    def files(deployment: "Deployment") -> dict[str, str]:
        return {"alerts.yaml": rules(deployment), "alertmanager.yaml": alertmanager(deployment)}

    _conclude(directory, output, check, show, files)


def dashboards(
    directory: Directory = Path(), *, output: Output = None, check: Check = False, show: Show = False
) -> None:
    """Write Grafana dashboards: one for each service and one for the platform.

    Import them, or have Grafana's provisioning read the directory; they ask for a Prometheus data source.

      interlock deploy dashboards
    """
    from interlock.deploy import dashboards as boards

    _conclude(directory, output, check, show, lambda deployment: _below("dashboards", boards(deployment)))


def _below(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def _conclude(
    directory: Path, output: Path | None, check: bool, show: bool, make: "Callable[[Deployment], Mapping[str, str]]"
) -> None:
    from interlock.deploy import differences, write

    files = make(_deployment(directory))
    if show:
        typer.echo("---\n".join(files.values()), nl=False)
        return
    target = output or directory / "deploy"
    changed = differences(target, files) if check else write(target, files)
    for each in changed:
        typer.echo(f"{each.state if check else _DONE[each.state]:<10} {each.path}", err=check)
    if not changed:
        typer.echo(f"up to date: {target}")
    elif check:
        raise typer.Exit(1)


_DONE = {"missing": "wrote", "stale": "wrote", "left over": "removed"}


def _deployment(directory: Path) -> "Deployment":
    import sys

    from interlock.contract.effective import effective
    from interlock.contract.find import find_image
    from interlock.contract.load import load
    from interlock.deploy.inputs import FILE, DeployError, read_deployment

    if (root := str(directory.resolve())) not in sys.path:
        sys.path.insert(0, root)
    contract = effective(load(find_image(".", directory)), {})
    try:
        return read_deployment(directory / FILE, contract)
    except DeployError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
