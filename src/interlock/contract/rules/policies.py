"""The rule of callers' policies: every number in them can be."""

from collections.abc import Callable, Iterator

from interlock.contract.gen.interlock.v1.options_pb import CallPolicy
from interlock.contract.mistakes import Mistake
from interlock.contract.model import Source
from interlock.contract.policies import declared_policy


def policy_mistakes(subject: str, given: CallPolicy | None, where: Callable[[str], Source]) -> Iterator[Mistake]:
    """Yield what is wrong with the policy of `subject`."""
    wrong: list[str] = []
    declared_policy(given, wrong)
    for each in wrong:
        yield Mistake(where("policy"), f"{subject}: its policy cannot be: {each}", "give a value in that range")
    if given is None or given.breaker is None:
        return
    breaker = given.breaker
    counts = breaker.consecutive_failures or given.preset == CallPolicy.Preset.COUNTING
    if breaker.has_field("minimum_calls") and not breaker.minimum_calls and not counts:
        message = f"{subject}: its breaker has neither minimum_calls nor consecutive_failures, so nothing opens it"
        yield Mistake(where("policy"), message, "say one of them, or `enabled: false`")
