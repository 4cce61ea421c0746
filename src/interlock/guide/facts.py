"""What a guide needs and no contract knows: the keys of `guide.toml`, each with its meaning."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from interlock.contract.names import nearest

FILE = "guide.toml"
Kind: TypeAlias = Literal["text", "list", "table", "rows"]


class FactsError(Exception):
    """The file of facts can't be read, or holds what it should not; the text names file and key."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One key: where it stands (`owner.team`), what it says, its form, and its value where none is given.

    `text` is a string, `list` strings, `table` strings by name, `rows` tables. Without a default it must be filled.
    """

    key: str
    meaning: str
    kind: Kind = "text"
    default: Any = None


FACTS = (
    Fact("document.name", 'the name of what is integrated ("Shop")'),
    Fact("document.last_updated", "the day of the last change, YYYY-MM-DD"),
    Fact("document.status", "Active, Draft or Deprecated", default="Active"),
    Fact("document.review_cycle", "when the guide is read again", default="Quarterly or after API changes"),
    Fact("document.description", "two or three sentences; else the comments of the services", default=""),
    Fact("document.purpose", "what the integration accomplishes and why it is needed"),
    Fact("document.use_cases", "name -> description", "table"),
    Fact("document.types", "integration types beside those that the contract shows", "list", ()),
    Fact("owner.team", "the team that owns the guide"),
    Fact("owner.contact", "where questions go: a mailbox or channel"),
    Fact("support.contact", "the mailbox of the service's support"),
    Fact("support.status_page", "the address of the status page"),
    Fact("support.guide", "the address of an internal troubleshooting guide", default=""),
    Fact("environments.production", "the base URL in production"),
    Fact("environments.staging", "the base URL in staging"),
    Fact("environments.test", "the base URL for tests, without path", default="http://127.0.0.1:8080"),
    Fact("variables.prefix", "what the callers' environment variables start with; else the name", default=""),
    Fact("variables.region", "the region in which the service runs"),
    Fact("access.aws_permissions", "IAM permissions that the setup needs", "list"),
    Fact("access.other", "other access that callers need", "list", ()),
    Fact("prerequisites.tools", "further tools with their versions", "list", ()),
    Fact("prerequisites.knowledge", "what readers should be familiar with", "list", ()),
    Fact("setup.role", "the IAM role of the caller's service account"),
    Fact("setup.policy_arn", "the policy attached to it"),
    Fact("setup.secret", "the secret's name in AWS Secrets Manager"),
    Fact("setup.terraform", "HCL that configures the service"),
    Fact("setup.console", "the same steps in the AWS console", "list"),
    Fact("dependencies.python", "the Python distribution with the generated client"),
    Fact("dependencies.node", "the npm package for Node.js, if there is one", default=""),
    Fact("dependencies.other", "how other languages get a client", default=""),
    Fact("credentials.command", "the command that issues a token"),
    Fact("credentials.rotation_schedule", "how often credentials change", default="every 90 days"),
    Fact("credentials.rotation_procedure", "the runbook or steps of a rotation"),
    Fact("examples.variables", "environment variables that the examples need", "table", {}),
    Fact("related.prerequisites", "title -> link", "table"),
    Fact("related.integrations", "title -> link", "table"),
    Fact("related.architecture", "title -> link", "table"),
    Fact("related.operations", "title -> link", "table"),
    Fact("changelog", "the guide's own: date, version, changes, author", "rows"),
    Fact("api_changelog", "the API's: version, date, changes", "rows"),
)
_BY_KEY = {each.key: each for each in FACTS}
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "changelog": ("date", "version", "changes", "author"),
    "api_changelog": ("version", "date", "changes"),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one guide, by key; a reader of a missing one gets a mark that names it."""

    given: Mapping[str, Any]

    @property
    def missing(self) -> tuple[Fact, ...]:
        """The facts that must be filled and are not, in the order of `FACTS`."""
        return tuple(each for each in FACTS if each.default is None and each.key not in self.given)

    def text(self, key: str) -> str:
        """Return a text."""
        return str(self._value(key, self.mark(key)))

    def list(self, key: str) -> "tuple[str, ...]":
        """Return a list of texts."""
        return tuple(self._value(key, (self.mark(key),)))

    def table(self, key: str) -> dict[str, str]:
        """Return texts by name."""
        return dict(self._value(key, {"To fill": self.mark(key)}))

    def rows(self, key: str) -> "tuple[tuple[str, ...], ...]":
        """Return the rows of a table, each with all of its columns."""
        rows = self._value(key, ({COLUMNS[key][-1]: self.mark(key)},))
        return tuple(tuple(str(row.get(name, "")) for name in COLUMNS[key]) for row in rows)

    def mark(self, key: str) -> str:
        """Return what stands in a guide where the fact is missing."""
        return f"**TO FILL `{key}`: {_BY_KEY[key].meaning}**"

    def _value(self, key: str, marked: Any) -> Any:
        fact = _BY_KEY[key]
        return self.given.get(key, marked if fact.default is None else fact.default)


def read_facts(path: Path) -> Facts:
    """Read `guide.toml`; without the file every fact is missing. FactsError lists unknown keys and wrong forms."""
    if not path.exists():
        return Facts({})
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FactsError(f"{path}: {error}") from None
    return facts_of(tree, str(path))


def facts_of(tree: Mapping[str, Any], named: str = FILE) -> Facts:
    """Return the facts in a parsed file; `named` is what mistakes call it. An empty value counts as missing."""
    given: dict[str, Any] = {}
    mistakes = []
    for key, value in _leaves(tree):
        fact = _BY_KEY.get(key)
        if fact is None:
            mistakes.append(f"{named}: {key} is no fact of a guide{nearest(key, _BY_KEY)}")
        elif not _fits(fact, value):
            mistakes.append(f"{named}: {key} should be {_FORMS[fact.kind]}: {fact.meaning}")
        elif value or fact.default is not None:
            given[key] = value.strip() if isinstance(value, str) else value
    if mistakes:
        raise FactsError("\n".join(mistakes))
    return Facts(given)


_FORMS = {"text": "a text", "list": "a list of texts", "table": "a table of texts", "rows": "a list of tables"}


def _leaves(tree: Mapping[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in tree.items():
        if isinstance(value, Mapping) and name not in _BY_KEY:
            found += [(f"{name}.{inner}", each) for inner, each in value.items()]
        else:
            found.append((name, value))
    return found


def _fits(fact: Fact, value: object) -> bool:
    if fact.kind == "text":
        return isinstance(value, str)
    if fact.kind == "table":
        return isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values())
    form = str if fact.kind == "list" else Mapping
    if not isinstance(value, list) or not all(isinstance(each, form) for each in value):
        return False
    return fact.kind == "list" or all(row.keys() <= set(COLUMNS[fact.key]) for row in value)
