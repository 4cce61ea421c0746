"""Prometheus rules of a platform: the standard's thresholds and the contract's objectives, recorded and alerted.

Every expression is by `job`, which is a workload's name (the ServiceMonitor's job label).
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from interlock.contract.model import Operation
from interlock.deploy.documents import written
from interlock.deploy.inputs import Deployment, Workload

Rule = Mapping[str, Any]

FAILED = "5..|UNKNOWN|INTERNAL|UNAVAILABLE|DATA_LOSS|DEADLINE_EXCEEDED"
"""Statuses that the service has to answer for, HTTP's and gRPC's."""

SUCCEEDED = "[123]..|OK"

WINDOWS = ("5m", "30m", "1h", "6h")
LEAST_SUCCESS = 0.95
MOST_ERRORS = 0.05
SLOWEST = 2.0
MOST_QUOTA = 0.9
OLDEST_DAYS = 90
"""Thresholds of the standard (OBS004); the goals behind them are 99 %, 1 %, 0.5 s, 80 % and 90 days."""

CERTIFICATE_ENDS_DAYS = 3
LONGEST_OUTBOX = 60
MOST_LAG = 1000
LONGEST_EVENT = 60
MOST_SHED = 0.01
"""Where waiting becomes trouble: seconds in the outbox, events before a consumer, seconds to the end of an event, and
the share of calls refused for overload."""

PROMISED = 0.99
"""The success ratio of a service whose contract promises none."""

BURNS = (("page", 14.4, "1h", "5m"), ("ticket", 6.0, "6h", "30m"))
"""Severity, and how many times too fast the month's error budget burns, in a long window and, still, in a short one."""


def alerts(deployment: Deployment) -> str:
    """Return the rules as one file for Prometheus, the same bytes every time."""
    groups = [
        {"name": f"{deployment.name}-recorded", "interval": "30s", "rules": list(_recorded(deployment))},
        {"name": f"{deployment.name}-standard", "rules": list(_standard(deployment))},
        {"name": f"{deployment.name}-parts", "rules": list(_parts(deployment))},
        {"name": f"{deployment.name}-objectives", "rules": list(_objectives(deployment))},
    ]
    return written("alerts", [{"groups": [each for each in groups if each["rules"]]}])


def alertmanager(deployment: Deployment) -> str:
    """Return an Alertmanager configuration to begin with: pages wake somebody, tickets wait for the morning.

    Receivers are webhooks whose addresses stand in files, as secrets do; what a dead service causes is not told again.
    """
    document = {
        "route": {
            "receiver": "tickets",
            "group_by": ["alertname", "job"],
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "4h",
            "routes": [{"matchers": ['severity="page"'], "receiver": "pager", "repeat_interval": "1h"}],
        },
        "inhibit_rules": [
            {
                "source_matchers": ['alertname="ServiceDown"'],
                "target_matchers": ['alertname!="ServiceDown"'],
                "equal": ["job"],
            },
            {
                "source_matchers": ['severity="page"'],
                "target_matchers": ['severity="ticket"'],
                "equal": ["alertname", "job"],
            },
        ],
        "receivers": [_receiver(deployment, "pager"), _receiver(deployment, "tickets")],
    }
    return written("alerts", [document])


def _receiver(deployment: Deployment, name: str) -> Rule:
    address = f"/etc/alertmanager/secrets/{deployment.name}-{name}-url"
    return {"name": name, "webhook_configs": [{"url_file": address, "send_resolved": True}]}


def _of(deployment: Deployment) -> str:
    return f'job=~"{"|".join(each.name for each in deployment.workloads)}"'


def _recorded(deployment: Deployment) -> Iterator[Rule]:
    jobs = _of(deployment)
    for window in WINDOWS:
        total = f"sum by (job) (rate(service_requests_total{{{jobs}}}[{window}]))"
        failed = f'sum by (job) (rate(service_requests_total{{{jobs}, status=~"{FAILED}"}}[{window}]))'
        yield {
            "record": f"job:service_failures:ratio_rate{window}",
            "expr": f"(({failed}) or ({total} * 0)) / ({total} > 0)",
        }
    total = f"sum by (job) (rate(service_requests_total{{{jobs}}}[5m]))"
    succeeded = f'sum by (job) (rate(service_requests_total{{{jobs}, status=~"{SUCCEEDED}"}}[5m]))'
    yield {
        "record": "job:service_successes:ratio_rate5m",
        "expr": f"(({succeeded}) or ({total} * 0)) / ({total} > 0)",
    }
    for part in ("request", "database", "external", "publish"):
        buckets = f"sum by (job, le) (rate(service_{part}_duration_seconds_bucket{{{jobs}}}[5m]))"
        yield {
            "record": f"job:service_{part}_duration_seconds:p95_5m",
            "expr": f"histogram_quantile(0.95, {buckets})",
        }
    buckets = f"sum by (job, endpoint, le) (rate(service_event_age_seconds_bucket{{{jobs}}}[5m]))"
    yield {"record": "job:service_event_age_seconds:p95_5m", "expr": f"histogram_quantile(0.95, {buckets})"}


def _alert(name: str, expression: str, severity: str, wait: str, *told: str, **labels: str) -> Rule:
    summary, action = told
    return {
        "alert": name,
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity, **labels},
        "annotations": {"summary": summary, "description": action},
    }


def _standard(deployment: Deployment) -> Iterator[Rule]:
    jobs = _of(deployment)
    yield _alert(
        "ServiceDown",
        f"up{{{jobs}}} == 0",
        "page",
        "1m",
        "{{ $labels.job }}: {{ $labels.instance }} does not answer the scraper",
        "See /readyz on its operations port and its log; `interlock doctor` names what it lacks.",
    )
    yield _alert(
        "SuccessRatioLow",
        f"job:service_successes:ratio_rate5m < {LEAST_SUCCESS}",
        "ticket",
        "5m",
        "{{ $labels.job }}: only {{ $value | humanizePercentage }} of calls succeed",
        "Refusals of wrong calls count too: look at service_requests_total by status.",
    )
    yield _alert(
        "ErrorRatioHigh",
        f"job:service_failures:ratio_rate5m > {MOST_ERRORS}",
        "page",
        "5m",
        "{{ $labels.job }}: {{ $value | humanizePercentage }} of calls fail by its own fault",
        "Look at service_requests_total by endpoint and status, then at the log of that endpoint.",
    )
    yield _alert(
        "ResponseSlow",
        f"job:service_request_duration_seconds:p95_5m > {SLOWEST:g}",
        "page",
        "5m",
        "{{ $labels.job }}: 5 % of calls take more than {{ $value | humanizeDuration }}",
        "Compare with the P95 of database, external calls and publishing, recorded beside it.",
    )
    yield _alert(
        "QuotaNearlyUsed",
        f"max by (job, endpoint) (service_rate_limit_used_ratio{{{jobs}}}) > {MOST_QUOTA}",
        "ticket",
        "5m",
        "{{ $labels.job }}: a caller has used {{ $value | humanizePercentage }} of {{ $labels.endpoint }}",
        "Tell the caller, or raise the limit in the contract or the settings.",
    )
    oldest = OLDEST_DAYS * 86400
    yield _alert(
        "CredentialOld",
        f"max by (job, issuer, kid) (service_key_age_seconds{{{jobs}}}) > {oldest}"
        f" or max by (job) (service_api_key_age_seconds{{{jobs}}}) > {oldest}"
        f" or max by (job, secret) (service_secret_age_seconds{{{jobs}}}) > {oldest}",
        "ticket",
        "1h",
        "{{ $labels.job }}: a credential {{ $labels.kid }}{{ $labels.secret }} is {{ $value | humanizeDuration }} old",
        "Rotate it: `interlock keys rotate` for keys; a running service takes the new one over.",
    )
    yield _alert(
        "CertificateEnds",
        f"min by (job, certificate) (service_certificate_expiry_seconds{{{jobs}}}) < {CERTIFICATE_ENDS_DAYS * 86400}",
        "page",
        "10m",
        "{{ $labels.job }}: the certificate {{ $labels.certificate }} ends in {{ $value | humanizeDuration }}",
        "Put a new one in its place: running services take it over. Then see why it was not renewed by itself.",
    )


def _parts(deployment: Deployment) -> Iterator[Rule]:
    jobs = _of(deployment)
    yield _alert(
        "OutboxStuck",
        f"max by (job) (service_outbox_age_seconds{{{jobs}}}) > {LONGEST_OUTBOX}",
        "page",
        "2m",
        "{{ $labels.job }}: an event has waited for {{ $value | humanizeDuration }} to be sent",
        "Is the broker up? Its log says why the relay waits; nothing is lost, and it goes on by itself.",
    )
    yield _alert(
        "EventsPileUp",
        f"max by (job, group) (service_event_lag{{{jobs}}}) > {MOST_LAG}",
        "ticket",
        "10m",
        "{{ $labels.job }}: {{ $value }} events wait for {{ $labels.group }}",
        "Compare the time it takes an event with how many come; more workers consume more partitions at a time.",
    )
    yield _alert(
        "EventsLate",
        f"job:service_event_age_seconds:p95_5m > {LONGEST_EVENT}",
        "ticket",
        "5m",
        "{{ $labels.job }}: 5 % of {{ $labels.endpoint }} end later than {{ $value | humanizeDuration }}",
        "Look at the outbox of who publishes it, at the lag of this service, then at retries in its log.",
    )
    yield _alert(
        "EventsGivenUp",
        f"sum by (job, endpoint) (increase(service_dead_letters_total{{{jobs}}}[15m])) > 0",
        "ticket",
        "0m",
        "{{ $labels.job }}: events {{ $labels.endpoint }} became dead letters",
        "`interlock events dead-letters list` shows why; put the cause right, then replay them.",
    )
    yield _alert(
        "CircuitOpen",
        f"max by (job, target, endpoint) (max_over_time(service_circuit_breaker_state{{{jobs}}}[2m])) == 2",
        "ticket",
        "5m",
        "{{ $labels.job }}: calls of {{ $labels.endpoint }} at {{ $labels.target }} are not even tried",
        "The neighbour fails or is slow: look at its own alerts first.",
    )
    shed = f"sum by (job) (rate(service_requests_shed_total{{{jobs}}}[5m]))"
    total = f"sum by (job) (rate(service_requests_total{{{jobs}}}[5m]))"
    yield _alert(
        "Overloaded",
        f"{shed} / ({total} > 0) > {MOST_SHED}",
        "page",
        "5m",
        "{{ $labels.job }}: {{ $value | humanizePercentage }} of calls are refused for overload",
        "Add replicas; if CPU is idle, look at what calls wait for.",
    )
    yield _alert(
        "ConnectionsUsedUp",
        f"max by (job, pool) (service_database_connections_awaited{{{jobs}}}) > 0",
        "ticket",
        "5m",
        "{{ $labels.job }}: {{ $value }} transactions wait for a connection of the pool {{ $labels.pool }}",
        "Look for slow statements first; then give the database a larger pool_size.",
    )


def _objectives(deployment: Deployment) -> Iterator[Rule]:
    for workload in deployment.workloads:
        budget = 1 - _promised(workload)
        for severity, speed, long, short in BURNS:
            over = f"{speed:g} * {budget:g}"
            chosen = f'{{job="{workload.name}"}}'
            yield _alert(
                "ErrorBudgetBurns",
                f"job:service_failures:ratio_rate{long}{chosen} > {over}"
                f" and job:service_failures:ratio_rate{short}{chosen} > {over}",
                severity,
                "2m",
                f"{{{{ $labels.job }}}}: the error budget ({1 - budget:.2%} promised) burns {speed:g} times too fast",
                f"At this speed a month's budget is gone in {_days(speed)}; look at what changed last.",
                service=workload.name,
            )
        if not workload.gateway:
            yield from _latencies(workload)


def _promised(workload: Workload) -> float:
    given = [each.objectives.success_ratio for each in workload.services]
    return max((ratio for ratio in given if ratio is not None), default=PROMISED)


def _days(speed: float) -> str:
    return f"{30 / speed:.0f} days" if speed < 30 else f"{30 * 24 / speed:.0f} hours"


def _latencies(workload: Workload) -> Iterator[Rule]:
    for service in workload.services:
        for operation in service.operations:
            limit = operation.objectives.latency_p95 or service.objectives.latency_p95
            if limit is not None:
                yield _latency(workload, operation, limit)


def _latency(workload: Workload, operation: Operation, limit: timedelta) -> Rule:
    endpoints = "|".join([_escaped(operation.path), *(_escaped(each.template.text) for each in operation.http)])
    chosen = f'job="{workload.name}", endpoint=~"{endpoints}"'
    buckets = f"sum by (job, le) (rate(service_request_duration_seconds_bucket{{{chosen}}}[5m]))"
    return _alert(
        "LatencyObjectiveMissed",
        f"histogram_quantile(0.95, {buckets}) > {limit.total_seconds():g}",
        "ticket",
        "10m",
        f"{{{{ $labels.job }}}}: P95 of {operation.service.rpartition('.')[2]}.{operation.name} is above its objective",
        f"The contract promises {limit.total_seconds():g} s; it is {{{{ $value | humanizeDuration }}}}.",
        operation=operation.path,
    )


def _escaped(text: str) -> str:
    """Escape for a regular expression within a PromQL string."""
    return "".join(f"\\\\{each}" if each in ".{}*+?()[]|^$" else each for each in text)
