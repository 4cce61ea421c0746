"""The command `interlock`: a table of commands, each in its own module, imported only when it runs."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import getdoc
from typing import Annotated, Any

import typer

HELP = """Executable service integration standards: one contract, every protocol.

  interlock init hello            make a small complete service
  interlock generate              contracts -> typed code
  interlock serve hello.service:make
  interlock COMMAND --help        says more, with examples
"""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name (`show contract` stands in the group `show`), the function behind it, a line of help."""

    name: str
    function: str
    help: str

    def load(self) -> Callable[..., Any]:
        """Import the function (`interlock.cli.generate:generate`)."""
        module, _, name = self.function.partition(":")
        found: Callable[..., Any] = getattr(import_module(module), name)
        return found


COMMANDS = (
    Command("init", "interlock.cli.init:init", "Make a small complete service."),
    Command("generate", "interlock.cli.generate:generate", "Write typed code from the contracts."),
    Command("serve", "interlock.cli.serve:serve", "Serve an app."),
    Command("check", "interlock.cli.check:check", "Check contracts, or a running service, against the standard."),
    Command("call", "interlock.cli.call:call", "Call one method and print the reply."),
    Command("bench", "interlock.cli.bench:bench", "Send load and hold it against the declared objectives."),
    Command("guide build", "interlock.cli.guide:build", "Write the project's integration guide."),
    Command("guide verify", "interlock.cli.guide:verify", "Execute the guide's examples against a service."),
    Command("doctor", "interlock.cli.doctor:doctor", "Find what keeps a service from working."),
    Command("deploy kubernetes", "interlock.cli.deploy:kubernetes", "Write Kubernetes manifests."),
    Command("deploy compose", "interlock.cli.deploy:compose", "Write a Compose file."),
    Command("deploy dockerfile", "interlock.cli.deploy:dockerfile", "Write a Dockerfile."),
    Command("deploy alerts", "interlock.cli.deploy:alerts", "Write Prometheus rules."),
    Command("deploy dashboards", "interlock.cli.deploy:dashboards", "Write Grafana dashboards."),
    Command("up", "interlock.cli.up:up", "Run a platform: its services and its gateway."),
    Command("show contract", "interlock.cli.show:contract", "Services, operations, routes and rules of a contract."),
    Command("show policies", "interlock.cli.policies:policies", "What applies to each operation, and why."),
    Command("show access", "interlock.cli.access:access", "Which role may call which operation."),
    Command("keys new", "interlock.cli.keys:new", "Make a key that signs tokens."),
    Command("keys rotate", "interlock.cli.keys:rotate", "Put a fresh key in front."),
    Command("keys list", "interlock.cli.keys:list_", "List the published keys."),
    Command("keys token", "interlock.cli.keys:token", "Print a fresh token."),
    Command("keys verify", "interlock.cli.keys:verify", "Tell whether a token is taken, or why not."),
    Command("keys certs", "interlock.cli.keys:certs", "Make a local authority and certificates for mutual TLS."),
    Command("accounts create", "interlock.cli.accounts:create", "Make a service account."),
    Command("accounts list", "interlock.cli.accounts:list_", "List the service accounts."),
    Command("accounts disable", "interlock.cli.accounts:disable", "Let no key of an account count any more."),
    Command("accounts enable", "interlock.cli.accounts:enable", "Let the keys of a disabled account count again."),
    Command("accounts key", "interlock.cli.accounts:key", "Make an API key and print it."),
    Command("accounts keys", "interlock.cli.accounts:keys", "List API keys."),
    Command("accounts revoke", "interlock.cli.accounts:revoke", "Let an API key count no more."),
    Command("show openapi", "interlock.cli.openapi:openapi", "The REST side of a contract as an OpenAPI document."),
    Command("show asyncapi", "interlock.cli.events:asyncapi", "The events of a contract as an AsyncAPI document."),
    Command("events dead-letters list", "interlock.cli.events:list_", "List what services gave up."),
    Command("events dead-letters show", "interlock.cli.events:show", "Print one dead letter, with its event."),
    Command("events dead-letters replay", "interlock.cli.events:replay", "Send dead letters to their service again."),
    Command("events dead-letters discard", "interlock.cli.events:discard", "Remove dead letters for good."),
    Command("show settings", "interlock.cli.settings:settings", "Every setting, its value and its default."),
)

GROUPS = {
    "show": "Print what Interlock knows of a service.",
    "keys": "Keys that sign tokens, tokens, and certificates.",
    "accounts": "Service accounts and their API keys.",
    "guide": "The project's integration guide.",
    "deploy": "Files that run a platform elsewhere.",
    "events": "What is between services: events and those given up.",
    "events dead-letters": "Events that a service gave up: look at them, send them again, or remove them.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0, 1 where something was found or is stale, 2 for wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        build(given)(given, prog_name="interlock")
    except Exception as error:
        code = _expected(error)
        if code is None:
            raise
        print(error, file=sys.stderr)  # noqa: T201 - what a command line does
        sys.exit(code)


def build(given: Sequence[str]) -> typer.Typer:
    """Return the app; only the command that `given` names is imported, the others lend their line of help."""
    app = _typer()
    app.callback(help=_formatted(HELP))(_options)
    groups = {name: _typer() for name in GROUPS}
    words = " ".join(each for each in given if not each.startswith("-"))
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        asked = f"{words} ".startswith(f"{command.name} ")
        function = command.load() if asked else _unloaded
        text = _formatted(getdoc(function) or "") if asked else command.help
        (groups[group] if group else app).command(name, help=text, short_help=command.help)(function)
    for name, sub in groups.items():
        outer, _, last = name.rpartition(" ")
        (groups[outer] if outer else app).add_typer(sub, name=last, help=GROUPS[name])
    return app


def _typer() -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # rich's help takes 250 ms to import
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def _formatted(text: str) -> str:
    """Keep paragraphs that are examples as they are: indented ones, and an only one, whose indent the parser takes."""
    return "\n\n".join(map(_paragraph, text.strip().split("\n\n")))


def _paragraph(text: str) -> str:
    if text.startswith("interlock "):
        text = "\n".join(f"  {line}" for line in text.splitlines())
    return f"\b\n{text}" if text.startswith("  ") else text


def _print_version(asked: bool) -> None:
    if asked:
        import interlock

        typer.echo(f"interlock {interlock.__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def _unloaded() -> None:
    raise AssertionError("a command that runs is imported first")


def _expected(error: Exception) -> int | None:
    """Return the exit code of an error that speaks for itself; None for one that needs its traceback."""
    from interlock.cli.failures import exit_code

    return exit_code(error)
