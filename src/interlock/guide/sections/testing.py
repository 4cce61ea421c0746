"""Testing and validation."""

from interlock.guide import examples
from interlock.guide.markdown import checks, joined, not_run, run
from interlock.guide.subject import Subject


def environment(subject: Subject) -> str:
    """Show how the test environment is chosen."""
    lines = f"""
export {subject.variable("ENDPOINT")}="{subject.facts.text("environments.test")}"
export {subject.variable("TOKEN")}="test-token"
"""
    return joined(
        "Configure test environment:",
        not_run("bash", lines, "these are values to replace; the examples run with those of the target"),
    )


def unit(subject: Subject) -> str:
    """Show a unit test without a service."""
    chosen = subject.chosen
    if chosen is None or chosen.retrieve is None:
        return f"No operation of {subject.name} reads one resource, so there is no example."
    return joined(
        "A client takes any transport; a unit test hands it one that answers by itself.",
        run("python", examples.unit_test_python(subject, chosen, chosen.retrieve)),
    )


def integration(subject: Subject) -> str:
    """Show how the guide's own examples are run against a service."""
    endpoint, token = subject.variable("ENDPOINT"), subject.variable("TOKEN")
    command = f'interlock guide verify --target "${endpoint}" --token "${token}"'
    return joined(
        "The examples of this guide are the integration tests of the API:",
        not_run("bash", command, "it is this command itself"),
    )


def checklist(_: Subject) -> str:
    """List what is to be true after the integration, and what shows it."""
    return joined(
        "After integration:",
        checks(
            (
                "Can authenticate successfully (the credentials check under Troubleshooting)",
                "Can retrieve data (Example 1)",
                "Can create resources (Example 2)",
                "Error handling works (Example 4)",
                "Rate limiting handled (Example 4)",
                "Logging configured (Logging)",
                "Monitoring set up (Key Metrics)",
            )
        ),
    )


BODIES = {
    "Test Environment": environment,
    "Unit Tests": unit,
    "Integration Tests": integration,
    "Validation Checklist": checklist,
}
