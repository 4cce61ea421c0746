"""Grafana dashboards: one for each service, one for the platform; rows in the order in which an operator asks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interlock.deploy.alerts import (
    FAILED,
    LEAST_SUCCESS,
    LONGEST_EVENT,
    LONGEST_OUTBOX,
    MOST_ERRORS,
    MOST_LAG,
    MOST_QUOTA,
    OLDEST_DAYS,
    SLOWEST,
)
from interlock.deploy.inputs import Deployment, Workload

SCHEMA = 39
"""Grafana's version of the dashboard model (Grafana 10.3 and later read it)."""

WIDTH, HEIGHT = 8, 8
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One plot: its question as title, the queries that answer it (legend -> PromQL), and where it turns red."""

    title: str
    queries: Mapping[str, str]
    unit: str = "short"
    red_above: float | None = None
    red_below: float | None = None


def dashboards(deployment: Deployment) -> dict[str, str]:
    """Return the dashboards as JSON by file name, the same bytes every time."""
    jobs = "|".join(each.name for each in deployment.workloads)
    files = {"platform.json": _written(deployment.name, "platform", _platform(jobs))}
    for workload in deployment.workloads:
        files[f"{workload.name}.json"] = _written(deployment.name, workload.name, _service(workload))
    return files


def _rate(metric: str, chosen: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}{{{chosen}}}[$__rate_interval]))"


def _p95(part: str, chosen: str, by: str) -> str:
    buckets = _rate(f"service_{part}_duration_seconds_bucket", chosen, f"{by}, le" if by else "le")
    return f"histogram_quantile(0.95, {buckets})"


def _share(status: str, chosen: str, by: str) -> str:
    some = _rate("service_requests_total", f'{chosen}, status=~"{status}"', by)
    total = _rate("service_requests_total", chosen, by)
    return f"(({some}) or ({total} * 0)) / ({total} > 0)"


def _platform(jobs: str) -> Iterator[Panel]:
    chosen = f'job=~"{jobs}"'
    yield Panel(title="Which services are up?", queries={"{{job}}": f"min by (job) (up{{{chosen}}})"}, red_below=1)
    yield Panel(
        title="Who fails?",
        queries={"{{job}}": _share(FAILED, chosen, "job")},
        unit="percentunit",
        red_above=MOST_ERRORS,
    )
    yield Panel(
        title="Who is slow (P95)?", queries={"{{job}}": _p95("request", chosen, "job")}, unit="s", red_above=SLOWEST
    )
    yield Panel(title="Who is busy?", queries={"{{job}}": _rate("service_requests_total", chosen, "job")}, unit="reqps")
    yield Panel(
        title="How much runs at this moment?",
        queries={"{{job}}": f"sum by (job) (service_requests_in_flight{{{chosen}}})"},
    )
    yield Panel(
        title="What do events wait for (P95 of publishing)?",
        queries={"{{job}}": _p95("publish", chosen, "job")},
        unit="s",
    )
    yield Panel(
        title="How much CPU?",
        queries={"{{job}}": _rate("process_cpu_seconds_total", chosen, "job")},
    )
    yield Panel(
        title="How much memory?",
        queries={"{{job}}": f"sum by (job) (process_resident_memory_bytes{{{chosen}}})"},
        unit="bytes",
    )


def _service(workload: Workload) -> Iterator[Panel]:
    chosen = f'job="{workload.name}"'
    yield Panel(
        title="Do calls succeed?",
        queries={
            "succeeded": _share("[123]..|OK", chosen, "job"),
            "failed by our fault": _share(FAILED, chosen, "job"),
        },
        unit="percentunit",
        red_below=LEAST_SUCCESS,
    )
    yield Panel(
        title="How long do they take (P95)?",
        queries={"{{endpoint}}": _p95("request", chosen, "endpoint")},
        unit="s",
        red_above=SLOWEST,
    )
    yield Panel(
        title="How many are there?",
        queries={"{{method}} {{endpoint}}": _rate("service_requests_total", chosen, "method, endpoint")},
        unit="reqps",
    )
    yield Panel(
        title="How do they end?",
        queries={"{{status}}": _rate("service_requests_total", chosen, "status")},
        unit="reqps",
    )
    yield Panel(
        title="What do they wait for (P95)?",
        queries={
            "database": _p95("database", chosen, ""),
            "other services": _p95("external", chosen, ""),
            "publishing": _p95("publish", chosen, ""),
        },
        unit="s",
    )
    yield Panel(
        title="How do calls to others end?",
        queries={"{{endpoint}} {{status}}": _rate("service_external_requests_total", chosen, "endpoint, status")},
        unit="reqps",
    )
    yield Panel(
        title="How much of a limit is used?",
        queries={"{{endpoint}}": f"max by (endpoint) (service_rate_limit_used_ratio{{{chosen}}})"},
        unit="percentunit",
        red_above=MOST_QUOTA,
    )
    yield Panel(
        title="How old are credentials?",
        queries={
            "key {{kid}}": f"max by (kid) (service_key_age_seconds{{{chosen}}})",
            "API key": f"max(service_api_key_age_seconds{{{chosen}}})",
            "secret {{secret}}": f"max by (secret) (service_secret_age_seconds{{{chosen}}})",
        },
        unit="s",
        red_above=OLDEST_DAYS * 86400,
    )
    yield Panel(
        title="How long are certificates good?",
        queries={"{{certificate}}": f"min by (certificate) (service_certificate_expiry_seconds{{{chosen}}})"},
        unit="s",
    )
    yield Panel(
        title="How much runs at this moment?",
        queries={
            "calls": f"sum(service_requests_in_flight{{{chosen}}})",
            "may run at once": f"sum(service_concurrency_limit{{{chosen}}})",
        },
    )
    yield Panel(
        title="How many are refused for overload?",
        queries={"{{endpoint}}": _rate("service_requests_shed_total", chosen, "endpoint")},
        unit="reqps",
    )
    yield Panel(
        title="How large are they (P95)?",
        queries={
            "requests": _sizes("request", chosen),
            "replies": _sizes("reply", chosen),
        },
        unit="bytes",
    )
    yield Panel(
        title="Which circuits are open (2), or tried (1)?",
        queries={
            "{{target}} {{endpoint}}": f"max by (target, endpoint) (service_circuit_breaker_state{{{chosen}}})",
        },
        red_above=2,
    )
    yield Panel(
        title="How often is a call repeated?",
        queries={"{{endpoint}}": _rate("service_retries_total", chosen, "endpoint")},
        unit="reqps",
    )
    yield Panel(
        title="What waits in the outbox?",
        queries={"events": f"max(service_outbox_events{{{chosen}}})"},
    )
    yield Panel(
        title="How long has the oldest event waited there?",
        queries={"oldest": f"max(service_outbox_age_seconds{{{chosen}}})"},
        unit="s",
        red_above=LONGEST_OUTBOX,
    )
    yield Panel(
        title="How many events wait to be consumed?",
        queries={"{{group}}": f"max by (group) (service_event_lag{{{chosen}}})"},
        red_above=MOST_LAG,
    )
    yield Panel(
        title="How old is an event at its end (P95)?",
        queries={
            "{{endpoint}}": "histogram_quantile(0.95, "
            + _rate("service_event_age_seconds_bucket", chosen, "endpoint, le")
            + ")"
        },
        unit="s",
        red_above=LONGEST_EVENT,
    )
    yield Panel(
        title="How many events were given up?",
        queries={
            "{{endpoint}}": f"sum by (endpoint) (increase(service_dead_letters_total{{{chosen}}}[$__rate_interval]))",
            "waiting for an operator": f"max by (job) (service_dead_letters_kept{{{chosen}}})",
        },
    )
    yield Panel(
        title="Are there database connections left?",
        queries={
            "{{pool}} {{state}}": f"sum by (pool, state) (service_database_connections{{{chosen}}})",
            "{{pool}} limit": f"sum by (pool) (service_database_connections_limit{{{chosen}}})",
            "{{pool}} awaited": f"sum by (pool) (service_database_connections_awaited{{{chosen}}})",
        },
    )


def _sizes(part: str, chosen: str) -> str:
    return f"histogram_quantile(0.95, {_rate(f'service_{part}_size_bytes_bucket', chosen, 'le')})"


def _written(platform: str, name: str, panels: Iterator[Panel]) -> str:
    document = {
        "uid": f"{platform}-{name}"[:40],
        "title": f"{platform}: {name}",
        "tags": ["interlock", platform],
        "schemaVersion": SCHEMA,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _panel(number: int, panel: Panel) -> Mapping[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": number % 3 * WIDTH, "y": number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, **_thresholds(panel)}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _thresholds(panel: Panel) -> Mapping[str, Any]:
    steps: Sequence[Mapping[str, Any]]
    if panel.red_above is not None:
        steps = [{"color": "green", "value": None}, {"color": "red", "value": panel.red_above}]
    elif panel.red_below is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.red_below}]
    else:
        return {}
    return {
        "thresholds": {"mode": "absolute", "steps": steps},
        "custom": {"thresholdsStyle": {"mode": "line"}},
    }
