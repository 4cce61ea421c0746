"""Kubernetes manifests of a platform: for each workload what runs it, finds it, scales it, guards it and watches it."""

from collections.abc import Iterator, Mapping
from typing import Any

from interlock.deploy.documents import written
from interlock.deploy.inputs import API_PORT, OPERATIONS_PORT, Deployment, Workload

Document = Mapping[str, Any]

MARGIN = 10
"""Seconds that a pod gets beyond its drain limit before it is killed."""

CPU_TARGET = 70
MEMORY_TARGET = 80
"""Shares, in percent, above which the standard says that a service is too busy (PERF002)."""

USER = 10001


def kubernetes(deployment: Deployment) -> dict[str, str]:
    """Return the manifests, a file for each workload and one for the namespace."""
    files = {"namespace.yaml": written("kubernetes", [_namespace(deployment), _deny_all(deployment)])}
    for workload in deployment.workloads:
        files[f"{workload.name}.yaml"] = written("kubernetes", _manifests(deployment, workload))
    return files


def _manifests(deployment: Deployment, workload: Workload) -> Iterator[Document]:
    yield _account(deployment, workload)
    yield _config(deployment, workload)
    yield _deployment(deployment, workload)
    yield _service(deployment, workload)
    yield _disruption_budget(deployment, workload)
    yield _autoscaler(deployment, workload)
    yield _network_policy(deployment, workload)
    yield _monitor(deployment, workload)


def _labels(deployment: Deployment, workload: Workload) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": workload.name,
        "app.kubernetes.io/part-of": deployment.name,
        "app.kubernetes.io/managed-by": "interlock",
    }


def _selects(deployment: Deployment, name: str) -> dict[str, str]:
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": deployment.name}


def _about(deployment: Deployment, workload: Workload) -> dict[str, Any]:
    return {
        "name": deployment.host(workload.name),
        "namespace": deployment.namespace,
        "labels": _labels(deployment, workload),
    }


def _namespace(deployment: Deployment) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": deployment.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }


def _deny_all(deployment: Deployment) -> Document:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "deny-all", "namespace": deployment.namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


def _account(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _about(deployment, workload),
        "automountServiceAccountToken": False,
    }


def _config(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _about(deployment, workload),
        "data": deployment.environment(workload),
    }


def _deployment(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _about(deployment, workload),
        "spec": {
            "replicas": workload.replicas,
            "selector": {"matchLabels": _selects(deployment, workload.name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": _labels(deployment, workload)}, "spec": _pod(deployment, workload)},
        },
    }


def _pod(deployment: Deployment, workload: Workload) -> Document:
    grace = deployment.drain_limit + deployment.readiness_grace
    return {
        "serviceAccountName": deployment.host(workload.name),
        "automountServiceAccountToken": False,
        # SIGTERM starts the drain: not ready first, then no new calls; no preStop hook has to wait for it
        "terminationGracePeriodSeconds": int(grace.total_seconds()) + MARGIN,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selects(deployment, workload.name)},
            }
        ],
        "containers": [_container(deployment, workload)],
        "volumes": [{"name": "var", "emptyDir": {}}, {"name": "tmp", "emptyDir": {"medium": "Memory"}}],
    }


def _container(deployment: Deployment, workload: Workload) -> Document:
    secrets = (*deployment.secrets, *workload.secrets)
    return {
        "name": workload.name,
        "image": deployment.image,
        "args": ["serve", workload.target],
        "ports": [
            {"name": "api", "containerPort": API_PORT},
            {"name": "operations", "containerPort": OPERATIONS_PORT},
        ],
        "envFrom": [
            {"configMapRef": {"name": deployment.host(workload.name)}},
            *({"secretRef": {"name": name}} for name in secrets),
        ],
        # a start gets a minute; then a pod that does not answer leaves the balancer at once and is replaced after 30 s
        "startupProbe": _probe("/readyz", every=1, failures=60),
        "readinessProbe": _probe("/readyz", every=2, failures=2),
        "livenessProbe": _probe("/livez", every=10, failures=3),
        "resources": {
            "requests": {"cpu": workload.cpu, "memory": workload.memory},
            "limits": {"memory": workload.memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "var", "mountPath": "/app/var"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _probe(path: str, *, every: int, failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": "operations"},
        "periodSeconds": every,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def _service(deployment: Deployment, workload: Workload) -> Document:
    # without an address of its own a name stands for every pod, so that clients spread their connections over them
    headless = {} if workload.gateway else {"clusterIP": "None"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _about(deployment, workload),
        "spec": {
            **headless,
            "selector": _selects(deployment, workload.name),
            "ports": [
                {"name": "api", "port": API_PORT, "targetPort": "api", "appProtocol": "kubernetes.io/h2c"},
                {"name": "operations", "port": OPERATIONS_PORT, "targetPort": "operations"},
            ],
        },
    }


def _disruption_budget(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _about(deployment, workload),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _selects(deployment, workload.name)}},
    }


def _autoscaler(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _about(deployment, workload),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.host(workload.name)},
            "minReplicas": workload.replicas,
            "maxReplicas": workload.most_replicas,
            "metrics": [_utilization("cpu", CPU_TARGET), _utilization("memory", MEMORY_TARGET)],
        },
    }


def _utilization(name: str, percent: int) -> Document:
    return {
        "type": "Resource",
        "resource": {"name": name, "target": {"type": "Utilization", "averageUtilization": percent}},
    }


def _network_policy(deployment: Deployment, workload: Workload) -> Document:
    callers = [each.name for each in deployment.workloads if workload.name in each.calls]
    api: dict[str, Any] = {"ports": [{"port": "api"}]}
    if not workload.gateway:
        api["from"] = [{"podSelector": {"matchLabels": _selects(deployment, name)}} for name in callers]
    egress: list[Document] = [
        {"to": [{"podSelector": {"matchLabels": _selects(deployment, name)}}], "ports": [{"port": API_PORT}]}
        for name in workload.calls
    ]
    egress.append({"ports": [{"port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]})
    if workload.calls_out:
        egress.append({"ports": [{"port": port} for port in workload.calls_out]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _about(deployment, workload),
        "spec": {
            "podSelector": {"matchLabels": _selects(deployment, workload.name)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [api, {"ports": [{"port": "operations"}]}],
            "egress": egress,
        },
    }


def _monitor(deployment: Deployment, workload: Workload) -> Document:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": _about(deployment, workload),
        "spec": {
            "selector": {"matchLabels": _selects(deployment, workload.name)},
            "jobLabel": "app.kubernetes.io/name",
            "endpoints": [{"port": "operations", "path": "/metrics", "interval": "15s"}],
        },
    }
