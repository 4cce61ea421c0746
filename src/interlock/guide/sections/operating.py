"""Monitoring and maintenance, troubleshooting, related documentation, changelogs, limits."""

from collections.abc import Iterator

from interlock.guide import examples
from interlock.guide.facts import COLUMNS
from interlock.guide.markdown import bullets, checks, joined, links, not_run, run, table
from interlock.guide.sections.setup import AWS
from interlock.guide.subject import Route, Subject


def metrics(subject: Subject) -> str:
    """List what to watch, with the thresholds, then the objectives that the contract declares."""
    rows = (
        ("Success rate", "> 99%", "< 95%"),
        ("Response time (P95)", "< 500ms", "> 2s"),
        ("Error rate", "< 1%", "> 5%"),
        ("API quota usage", "< 80%", "> 90%"),
    )
    return joined(
        "Monitor these metrics:",
        table(("Metric", "Threshold", "Alert"), rows),
        "They come from `service_requests_total` and `service_request_duration_seconds`, which each service offers "
        "at `/metrics` of its operations port.",
        *_objectives(subject),
    )


def _objectives(subject: Subject) -> Iterator[str]:
    rows = []
    for each in subject.services:
        told = each.objectives
        if told.latency_p95 or told.success_ratio or told.requests_per_second:
            latency = f"{told.latency_p95.total_seconds() * 1000:g} ms" if told.latency_p95 else ""
            ratio = f"{told.success_ratio:.2%}" if told.success_ratio else ""
            rate = str(told.requests_per_second or "")
            rows.append((f"`{each.short_name}`", latency, ratio, rate))
    if rows:
        yield "The contract promises:"
        yield table(("Service", "P95", "Success", "Requests/s"), rows)


def cloudwatch(_: Subject) -> str:
    """Show how a caller counts its calls in CloudWatch."""
    text = """
# Create custom metric
aws cloudwatch put-metric-data \\
  --namespace "ServiceIntegration" \\
  --metric-name "APICallSuccess" \\
  --value 1
"""
    return not_run("bash", text, AWS)


def logging(subject: Subject) -> str:
    """Show structured logs of a caller."""
    route = next(iter(subject.routes), None)
    path = str(route.binding.template) if route is not None else "/health"
    text = f"""
import logging

logging.basicConfig(level=logging.INFO, format="%(message)s %(endpoint)s %(status_code)d %(response_time_ms)d")
logger = logging.getLogger("service_integration")

measured = {{
    "endpoint": "{path}",
    "status_code": 200,
    "response_time_ms": 150,
}}
logger.info("API call", extra=measured)
"""
    return joined(
        "Configure structured logging; log routes, never paths with ids, and no tokens:",
        run("python", text),
        "The services log one line of JSON a call, with `endpoint`, `status_code`, `response_time_ms` and the request "
        "and trace ids.",
    )


def maintenance(subject: Subject) -> str:
    """List what is done regularly."""
    schedule = subject.facts.text("credentials.rotation_schedule")
    return joined(
        "Regular maintenance:",
        checks(
            (
                "**Weekly**: Review error logs",
                "**Monthly**: Check API quotas",
                f"**Quarterly**: Rotate credentials (schedule: {schedule})",
                "**Quarterly**: Review and update documentation",
            )
        ),
    )


def troubleshooting(subject: Subject) -> str:
    """Give the commands of a search, and where help is."""
    facts = subject.facts
    guide = facts.text("support.guide")
    endpoint = subject.variable("ENDPOINT")
    resources = {"Service Status Page": facts.text("support.status_page")}
    resources["Service Support"] = f"mailto:{facts.text('support.contact')}"
    return joined(
        "See the [Troubleshooting section](#error-handling) above for common issues.",
        "For debugging, have the service log more:",
        not_run("bash", "export INTERLOCK_LOG_LEVEL=debug", "it is set where the service runs"),
        "Test connectivity:",
        run("bash", f'curl --verbose --fail-with-body "${endpoint}/health"'),
        *_credentials_check(subject),
        "**Additional Resources:**\n" + links(resources | ({"Internal Troubleshooting Guide": guide} if guide else {})),
    )


def _credentials_check(subject: Subject) -> Iterator[str]:
    route = _checked(subject)
    if route is not None:
        asked = examples.curl_status(subject, route, examples.path_to(route, examples.MISSING_ID))
        yield "Check credentials: 401 means that the token does not verify, 403 that it lacks the permission."
        yield run("bash", f'status=$({asked})\necho "$status"\ntest "$status" != 401 && test "$status" != 403')


def _checked(subject: Subject) -> Route | None:
    """Return a route that needs a token and changes nothing: that of Example 1 if it does."""
    first = subject.chosen.retrieve if subject.chosen is not None else None
    routes = subject.routes if first is None else (first, *subject.routes)
    reads = (each for each in routes if each.binding.verb == "GET" and not each.operation.unauthenticated)
    return next(reads, None)


def related(subject: Subject) -> str:
    """List the other documents."""
    names = ("prerequisites", "integrations", "architecture", "operations")
    titles = ("Prerequisites", "Related Integrations", "Architecture", "Operations")
    return joined(
        *(
            f"**{title}:**\n{links(subject.facts.table(f'related.{name}'))}"
            for title, name in zip(titles, names, strict=True)
        )
    )


def changelog(subject: Subject) -> str:
    """List the changes of the guide."""
    return table(tuple(each.capitalize() for each in COLUMNS["changelog"]), subject.facts.rows("changelog"))


def appendix(subject: Subject) -> str:
    """Say how the API's contract is had."""
    return (
        f"The whole contract: `${subject.variable('ENDPOINT')}/openapi.json`, or gRPC reflection at the same address."
    )


def rate_limits(subject: Subject) -> str:
    """List the limits of every external operation."""
    rows = []
    for route in subject.routes:
        limit = route.operation.rate_limit
        window = f"{limit.per.total_seconds():g} s" if limit is not None else "-"
        rows.append((f"`{route.binding}`", str(limit.requests) if limit is not None else "none declared", window))
    return joined(table(("Endpoint", "Limit", "Window"), rows), "Limits count for each caller.")


def api_changelog(subject: Subject) -> str:
    """List the changes of the API, and what the contract deprecates."""
    entries = (
        f"**v{version.removeprefix('v')} ({day}):**\n{bullets(changes.splitlines())}"
        for version, day, changes in subject.facts.rows("api_changelog")
    )
    return joined(*entries, *_deprecated(subject))


def _deprecated(subject: Subject) -> Iterator[str]:
    gone = [
        f"`{each.binding}` since {told.since or 'now'}, until {told.sunset or 'further notice'}: use `{told.successor}`"
        for each in subject.routes
        if (told := each.operation.deprecation) is not None
    ]
    if gone:
        yield f"**Deprecated:**\n{bullets(gone)}"


BODIES = {
    "Key Metrics": metrics,
    "CloudWatch Metrics": cloudwatch,
    "Logging": logging,
    "Maintenance Tasks": maintenance,
    "Troubleshooting": troubleshooting,
    "Related Documentation": related,
    "Changelog": changelog,
    "Appendix": appendix,
    "Rate Limits": rate_limits,
    "API Changelog": api_changelog,
}
