"""The integration guide of a project: written from its contract and a file of facts, its examples executed.

`build` makes the Markdown, `verify` runs the examples of a built guide against a service. Both are pure of the command
line; what the contract can't know stands in `guide.toml` (`read_facts`).
"""

from interlock.guide.build import Guide, build
from interlock.guide.facts import FACTS, Fact, Facts, FactsError, read_facts
from interlock.guide.headings import HEADINGS, Heading
from interlock.guide.subject import Subject, subject
from interlock.guide.verify import Report, State, verify

__all__ = [
    "FACTS",
    "HEADINGS",
    "Fact",
    "Facts",
    "FactsError",
    "Guide",
    "Heading",
    "Report",
    "State",
    "Subject",
    "build",
    "read_facts",
    "subject",
    "verify",
]
