"""EVT001: events are declared, named `noun.verb-past`, and ordered by a key."""

from collections.abc import Iterator

from interlock.contract.declared import DeclaredEvent
from interlock.contract.mistakes import Mistake
from interlock.contract.rules.events import TYPE, event_mistakes
from interlock.standards.declarations import Declarations
from interlock.standards.language import is_past
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    yield from event_mistakes(contract.declared)
    for event in contract.declared.events:
        if TYPE.match(event.options.type):
            yield from _names(event)


def _names(event: DeclaredEvent) -> Iterator[Mistake]:
    type_, name = event.options.type, event.message.name
    verb = type_.rpartition(".")[2]
    if not is_past(verb):
        message = f"{name}: {verb!r} in {type_!r} is not in the past"
        yield Mistake(event.where("type"), message, "say what happened: `noun.verb-in-the-past` (`order.created`)")
    wanted = "".join(word.capitalize() for word in type_.replace(".", "_").split("_"))
    if not wanted.endswith(name) or not name.lower().endswith(verb.replace("_", "")):
        message = f"the event {type_!r} is a message {name}"
        yield Mistake(event.where("type"), message, f"call both the same: `message {wanted}`")


EVT001 = ContractRule(
    id="EVT001",
    title="Events are declared in the contract, named noun.verb-in-the-past, and ordered by a key.",
    why=(
        "An event tells what happened, not what somebody should do. Its key says which events are consumed in the\n"
        "order of their publishing. Id and time are in every event's envelope (CloudEvents) and need no field."
    ),
    wrong="""\
// Orders.
service OrderService {
  option (interlock.v1.service) = {publishes: "order.create"};
}

// An order was placed.
message OrderCreate {
  option (interlock.v1.event) = {type: "order.create"};
  // Which order.
  string order_id = 1;
}
""",
    right="""\
// Orders.
service OrderService {
  option (interlock.v1.service) = {publishes: "order.created"};
}

// An order was placed.
message OrderCreated {
  option (interlock.v1.event) = {type: "order.created" key: "order_id"};
  // Which order.
  string order_id = 1;
}
""",
    check=_check,
)
