"""What runs a platform elsewhere: manifests, images and rules, written from the contract and one file of facts."""

from interlock.deploy.alerts import alertmanager, alerts
from interlock.deploy.compose import compose, dockerfile, dockerignore
from interlock.deploy.dashboards import dashboards
from interlock.deploy.files import Difference, differences, write
from interlock.deploy.inputs import DeployError, Deployment, Workload, read_deployment
from interlock.deploy.kubernetes import kubernetes

__all__ = [
    "DeployError",
    "Deployment",
    "Difference",
    "Workload",
    "alertmanager",
    "alerts",
    "compose",
    "dashboards",
    "differences",
    "dockerfile",
    "dockerignore",
    "kubernetes",
    "read_deployment",
    "write",
]
