"""Overview, prerequisites and architecture."""

from collections.abc import Iterator

from interlock.contract.gen.interlock.v1.options_pb import Exposure
from interlock.contract.model import Service
from interlock.guide.markdown import block, bullets, checks, joined, numbered, table
from interlock.guide.subject import Subject

TYPES = ("REST API", "gRPC", "GraphQL", "Message Queue", "Database", "SDK/Library", "Webhook")


def description(subject: Subject) -> str:
    """Say what the service is."""
    given = subject.facts.text("document.description")
    if given:
        return given
    texts = (f"`{each.short_name}`: {' '.join(each.comment.split())}" for each in subject.services if each.comment)
    return bullets(texts) or f"{subject.name} has {len(subject.services)} services."


def use_cases(subject: Subject) -> str:
    """List what callers do with it."""
    return bullets(f"**{name}**: {text}" for name, text in subject.facts.table("document.use_cases").items())


def types(subject: Subject) -> str:
    """Tick the types in force: those of the contract, and those that the facts name."""
    given = subject.facts.list("document.types")
    events = bool(subject.contract.events)
    in_force = {"REST API": bool(subject.routes), "gRPC": True, "Message Queue": events, "SDK/Library": True}
    ticked = {each: in_force.get(each, False) or each in given for each in TYPES}
    other = [each for each in given if each not in TYPES]
    return checks({**ticked, **({f"Other: {', '.join(other)}": True} if other else {})})


def required_access(subject: Subject) -> str:
    """List the access that callers need."""
    facts = subject.facts
    permissions = sorted({each.operation.permission for each in subject.routes} - {""})
    needed = [f"AWS Console access with permissions: {', '.join(facts.list('access.aws_permissions'))}"]
    needed.append("Service account credentials")
    if permissions:
        needed.append(f"A token with the permissions: {', '.join(f'`{each}`' for each in permissions)}")
    return checks([*needed, *facts.list("access.other")])


def required_services(subject: Subject) -> str:
    """List the services that must run."""
    running = (f"`{each.name}` is running (owner: {each.owner or 'not named'})" for each in subject.services)
    return checks([*running, f"Network connectivity to `{subject.facts.text('environments.production')}` verified"])


def required_tools(subject: Subject) -> str:
    """List the tools."""
    tools = ("AWS CLI v2.x+", "Python v3.11+", "curl v7.76+", "Node.js v18+ (for the Node.js examples)")
    return checks([*tools, *subject.facts.list("prerequisites.tools")])


def knowledge(subject: Subject) -> str:
    """List what readers should know."""
    known = ["Familiarity with REST and JSON over HTTP", "Familiarity with asynchronous Python, for the typed client"]
    if subject.contract.events:
        known.append("Understanding of events that are delivered at least once")
    return bullets([*known, *subject.facts.list("prerequisites.knowledge")])


def integration(subject: Subject) -> str:
    """Draw callers, services and events, and explain the drawing."""
    text = (
        "Your application calls the endpoint over REST or gRPC. The external operations of each service are reached "
        "there; services call one another over gRPC and tell one another what happened by events."
    )
    return joined(block("mermaid", "\n".join(_diagram(subject))), "**Description:**\n" + text)


def _diagram(subject: Subject) -> Iterator[str]:
    yield "graph LR"
    yield f'    caller[Your Application] -->|API calls| edge["{subject.name}"]'
    external = {each.service.name for each in subject.routes} | {each.service for each in subject.rpc_only}
    names = {each.name: each.short_name for each in subject.services}
    for each in subject.services:
        if each.name in external:
            yield f"    edge --> {each.short_name}"
        yield from (f"    {each.short_name} -->|calls| {names.get(called, called)}" for called in each.calls)
        for event in each.publishes:
            takers = [other.short_name for other in subject.services if event in other.subscribes]
            yield from (f"    {each.short_name} -.->|{event}| {taker}" for taker in takers or ["broker[(Events)]"])


def data_flow(subject: Subject) -> str:
    """Tell the steps of one call, and of what follows it."""
    steps = [
        "**Call**: your application sends a request with its token to the endpoint.",
        "**Checks**: deadline, token, rate limit and permission first, then the request against the contract.",
        "**Work**: the service that owns the operation does it and stores the result.",
        "**Answer**: the reply comes in the `data` and `meta` envelope (REST), or as the reply message (gRPC).",
    ]
    if events := sorted({event for each in subject.services for event in each.publishes}):
        steps.append(f"**Events**: what happened is published: {', '.join(f'`{each}`' for each in events)}.")
    return numbered(steps)


def components(subject: Subject) -> str:
    """List the services with their purpose."""
    return table(
        ("Component", "Purpose", "Technology"),
        ((f"`{each.name}`", _purpose(each), _technology(each)) for each in subject.services),
    )


def _purpose(service: Service) -> str:
    return service.comment.partition("\n")[0] or "Not described in the contract."


def _technology(service: Service) -> str:
    external = [each for each in service.operations if each.exposure is Exposure.EXTERNAL]
    used = ["gRPC", *(["REST"] if any(each.http for each in external) else [])]
    return ", ".join([*used, *(["events"] if service.publishes or service.subscribes else [])])


BODIES = {
    "Service Description": description,
    "Integration Purpose": lambda subject: subject.facts.text("document.purpose"),
    "Use Cases": use_cases,
    "Integration Type": types,
    "Required Access": required_access,
    "Required Services": required_services,
    "Required Tools": required_tools,
    "Required Knowledge": knowledge,
    "Integration Architecture": integration,
    "Data Flow": data_flow,
    "Components": components,
}
