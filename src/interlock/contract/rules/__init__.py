"""The rules of a contract: each looks at what an image declares and yields the mistakes it finds."""

from collections.abc import Iterator

from interlock.contract.declared import Declared
from interlock.contract.mistakes import Mistake
from interlock.contract.rules.events import event_mistakes
from interlock.contract.rules.fields import field_mistakes
from interlock.contract.rules.names import name_mistakes
from interlock.contract.rules.objectives import objectives_mistakes
from interlock.contract.rules.operations import operation_mistakes
from interlock.contract.rules.policies import policy_mistakes
from interlock.contract.rules.routes import route_mistakes


def find_mistakes(declared: Declared) -> Iterator[Mistake]:
    """Yield every mistake; nothing stops at the first."""
    for service in declared.services:
        yield from objectives_mistakes(service.service.name, service.options.objectives, service.where)
        yield from policy_mistakes(service.service.name, service.options.policy, service.where)
    for rpc in declared.rpcs:
        yield from operation_mistakes(rpc)
        yield from policy_mistakes(str(rpc), rpc.options.policy, rpc.where)
    yield from route_mistakes(declared)
    yield from name_mistakes(declared)
    yield from event_mistakes(declared)
    yield from field_mistakes(declared)
