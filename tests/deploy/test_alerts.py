"""The shop's alert rules before Prometheus' own tool: each fires on series that break its threshold, and only then."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock.contract.find import find_image
from interlock.contract.load import load
from interlock.deploy import alerts, read_deployment

SHOP = Path(__file__).resolve().parents[2] / "examples" / "shop"
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: prometheus): the rules were not tried"
)
HOURS = 7
BOUNDS = ("0.05", "0.5", "1.0", "2.0", "5.0", "+Inf")


@pytest.fixture(scope="module")
def rules() -> str:
    """Return the shop's rules."""
    return alerts(read_deployment(SHOP / "deploy.toml", load(find_image(".", SHOP))))


def series(name: str, labels: str, step: float, start: float = 0) -> Mapping[str, str]:
    """Return one series that grows by `step` a minute for hours."""
    sign = "-" if step < 0 else "+"
    return {"series": f"{name}{{{labels}}}", "values": f"{start:g}{sign}{abs(step):g}x{HOURS * 60}"}


def calls(ok: int, failed: int = 0, refused: int = 0, job: str = "orders") -> list[Mapping[str, str]]:
    """Return calls a minute by how they end."""
    about = f'job="{job}", method="GRPC", endpoint="/api.order.v1.OrderService/GetOrder"'
    ends = {"OK": ok, "INTERNAL": failed, "NOT_FOUND": refused}
    return [
        series("service_requests_total", f'{about}, status="{status}"', each) for status, each in ends.items() if each
    ]


def durations(seconds: str, endpoint: str = "/api.order.v1.OrderService/GetOrder") -> list[Mapping[str, str]]:
    """Return calls all of which take at most `seconds`, and more than the bound before."""
    about = f'job="orders", method="GRPC", endpoint="{endpoint}"'
    reached = BOUNDS[BOUNDS.index(seconds) :]
    name = "service_request_duration_seconds_bucket"
    return [series(name, f'{about}, le="{bound}"', 60 if bound in reached else 0) for bound in BOUNDS]


def ages(seconds: str) -> list[Mapping[str, str]]:
    """Return events all of which end at most `seconds` after they were published."""
    bounds = ("1.0", "60.0", "300.0", "+Inf")
    reached = bounds[bounds.index(seconds) :]
    about = 'job="orders", endpoint="payment.completed"'
    return [
        series("service_event_age_seconds_bucket", f'{about}, le="{bound}"', 60 if bound in reached else 0)
        for bound in bounds
    ]


def level(name: str, labels: str, value: float) -> list[Mapping[str, str]]:
    """Return a gauge that stands still."""
    return [series(name, labels, 0, value)]


CIRCUIT = 'job="orders", target="inventory:8080", endpoint="/api.inventory.v1.InventoryService/Reserve"'
UP = 'job="orders", instance="10.0.0.1:8081"'
GOOD = [
    *calls(1000, failed=1, refused=5),
    *durations("0.05"),
    *level("up", UP, 1),
    *level("service_rate_limit_used_ratio", 'job="orders", endpoint="/a"', 0.5),
    *level("service_key_age_seconds", 'job="orders", issuer="service-auth", kid="k"', 30 * 86400),
    *level("service_certificate_expiry_seconds", 'job="orders", certificate="server"', 30 * 86400),
    *level("service_secret_age_seconds", 'job="orders", secret="database"', 30 * 86400),
    *level("service_outbox_age_seconds", 'job="orders"', 2),
    *level("service_event_lag", 'job="orders", group="api.order.v1.OrderService"', 40),
    *ages("1.0"),
    *level("service_dead_letters_total", 'job="orders", endpoint="payment.failed"', 7),
    *level("service_circuit_breaker_state", CIRCUIT, 1),
    series("service_requests_shed_total", 'job="orders", endpoint="/a"', 1),
    *level("service_database_connections_awaited", 'job="orders", pool="all"', 0),
]
BAD = {
    "ServiceDown": level("up", UP, 0),
    "SuccessRatioLow": calls(90, refused=10),
    "ErrorRatioHigh": calls(90, failed=10),
    "ResponseSlow": durations("5.0"),
    "QuotaNearlyUsed": level("service_rate_limit_used_ratio", 'job="orders", endpoint="/a"', 0.95),
    "CredentialOld": level("service_key_age_seconds", 'job="orders", issuer="service-auth", kid="k"', 100 * 86400),
    "CertificateEnds": level("service_certificate_expiry_seconds", 'job="orders", certificate="server"', 2 * 86400),
    "ErrorBudgetBurns": calls(75, failed=25),
    "LatencyObjectiveMissed": durations("5.0"),
    "OutboxStuck": level("service_outbox_age_seconds", 'job="orders"', 100),
    "EventsPileUp": level("service_event_lag", 'job="orders", group="api.order.v1.OrderService"', 5000),
    "EventsLate": ages("300.0"),
    "EventsGivenUp": [series("service_dead_letters_total", 'job="orders", endpoint="payment.failed"', 1)],
    "CircuitOpen": level("service_circuit_breaker_state", CIRCUIT, 2),
    "Overloaded": [*calls(90), series("service_requests_shed_total", 'job="orders", endpoint="/a"', 10)],
    "ConnectionsUsedUp": level("service_database_connections_awaited", 'job="orders", pool="all"', 3),
}


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run promtool."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60, check=False)


def firing(path: Path, rules: str, given: list[Mapping[str, str]], wanted: Mapping[str, Any] | None) -> str:
    """Let the tool evaluate the rules over `given`; return what it says against what is `wanted`, empty if nothing."""
    (path / "rules.yaml").write_text(rules)
    names = {each["alert"] for group in yaml.safe_load(rules)["groups"] for each in group["rules"] if "alert" in each}
    expected = [{"eval_time": f"{HOURS}h", "alertname": name, "exp_alerts": []} for name in sorted(names)]
    if wanted is not None:
        expected = [{"eval_time": f"{HOURS}h", **wanted}]
    test = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "5m",
        "tests": [{"interval": "1m", "input_series": given, "alert_rule_test": expected}],
    }
    (path / "test.yaml").write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", str(path / "test.yaml"))
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_every_alert_says_what_to_do(rules: str) -> None:
    """Each has a severity, how long it must hold, and a text for whoever is woken."""
    found = [each for group in yaml.safe_load(rules)["groups"] for each in group["rules"] if "alert" in each]
    assert {each["alert"] for each in found} == set(BAD)
    for each in found:
        assert each["labels"]["severity"] in ("page", "ticket")
        assert each["for"]
        assert all(each["annotations"][key] for key in ("summary", "description"))


@needs_promtool
def test_the_tool_finds_nothing_wrong(tmp_path: Path, rules: str) -> None:
    """Syntax and lint."""
    path = tmp_path / "rules.yaml"
    path.write_text(rules)
    done = promtool("check", "rules", "--lint-fatal", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_all_alerts_are_silent_while_all_is_well(tmp_path: Path, rules: str) -> None:
    """A service within its objectives wakes nobody; so does one without any traffic."""
    assert firing(tmp_path, rules, GOOD, None) == ""
    assert firing(tmp_path, rules, level("up", UP, 1), None) == ""


@needs_promtool
@pytest.mark.parametrize("name", BAD)
def test_an_alert_fires(tmp_path: Path, rules: str, name: str) -> None:
    """Series that break the threshold fire it: to expect none of it is found wrong."""
    told = firing(tmp_path, rules, BAD[name], {"alertname": name, "exp_alerts": []})
    assert f"alertname: {name}" in told
