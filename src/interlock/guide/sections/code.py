"""Code examples: a client, then the four things that every integration does."""

from interlock.guide import examples
from interlock.guide.markdown import joined, run
from interlock.guide.subject import Subject, id_in_reply, id_variable

CLIENT = "client"


def initialize(subject: Subject) -> str:
    """Show how a client is started."""
    chosen = subject.chosen
    if chosen is None:
        return _lacking(subject, "is external")
    endpoint = subject.variable("ENDPOINT")
    return joined(
        "The examples below go on from these lines.",
        "**Python:**",
        run("python", examples.connect(subject, chosen), name=CLIENT),
        "**Node.js:**",
        run("javascript", examples.connect_node(subject), name=CLIENT),
        "**curl:** needs no client; this asks whether the service is ready.",
        run("bash", f'curl --silent --show-error --fail-with-body "${endpoint}/health"'),
    )


def retrieve(subject: Subject) -> str:
    """Show how one resource is read."""
    chosen = subject.chosen
    if chosen is None or chosen.retrieve is None:
        return _lacking(subject, "reads one resource")
    route, variable = chosen.retrieve, id_variable(chosen)
    made = " Example 2 prints one." if id_in_reply(chosen) else ""
    return joined(
        f"`{variable}` in the environment says which.{made}",
        "**Python:**",
        run("python", examples.retrieve_python(chosen, route), after=CLIENT),
        "**Node.js:**",
        run("javascript", examples.retrieve_node(route), after=CLIENT),
        "**curl:**",
        run("bash", examples.curl(subject, route)),
    )


def create(subject: Subject) -> str:
    """Show how a resource is created."""
    chosen = subject.chosen
    if chosen is None or chosen.create is None:
        return _lacking(subject, "creates a resource")
    route = chosen.create
    return joined(
        "**Python:**",
        run("python", examples.create_python(subject, chosen, route), after=CLIENT, first=True),
        "**curl:**",
        run("bash", examples.curl(subject, route)),
    )


def paginate(subject: Subject) -> str:
    """Show how a list is read to its end."""
    chosen = subject.chosen
    if chosen is None or chosen.paginate is None:
        return _lacking(subject, "lists resources by pages")
    route = chosen.paginate
    return joined(
        "The client asks for the next page when it is needed.",
        "**Python:**",
        run("python", examples.paginate_python(route), after=CLIENT),
        "**curl:** one page; `meta.next_page_token` of the reply, as the parameter `page_token`, asks for the next.",
        run("bash", examples.curl(subject, route, query="?page_size=2")),
    )


def errors(subject: Subject) -> str:
    """Show how errors are told apart, and what to do at a limit."""
    chosen = subject.chosen
    if chosen is None or chosen.retrieve is None:
        return _lacking(subject, "reads one resource")
    route = chosen.retrieve
    asked = examples.curl_status(subject, route, examples.path_to(route, examples.MISSING_ID))
    return joined(
        "Errors are classes (`NotFound`, `ResourceExhausted`, …) below `Error`; `reason` is stable, so branch on it.",
        "**Python:**",
        run("python", examples.errors_python(route), after=CLIENT),
        "**curl:** the status of something that is not there.",
        run("bash", f'status=$({asked})\necho "$status"\ntest "$status" = 404'),
    )


def _lacking(subject: Subject, what: str) -> str:
    return f"No operation of {subject.name} {what}, so there is no example."


BODIES = {
    "Initialize Client": initialize,
    "Example 1: Retrieve Data": retrieve,
    "Example 2: Create Resource": create,
    "Example 3: Handle Pagination": paginate,
    "Example 4: Error Handling": errors,
}
