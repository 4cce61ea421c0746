"""INT003: every event has one publisher, and nobody waits for one that never comes."""

from collections.abc import Iterator

from interlock.contract.declared import DeclaredService
from interlock.contract.mistakes import Mistake
from interlock.contract.names import nearest
from interlock.standards.declarations import Declarations
from interlock.standards.rule import ContractRule


def _check(contract: Declarations) -> Iterator[Mistake]:
    publisher: dict[str, DeclaredService] = {}
    for service in contract.declared.services:
        name = service.service.name
        for index, type_ in enumerate(service.options.publishes):
            other = publisher.setdefault(type_, service)
            if other is not service:
                message = f"{name} publishes {type_!r}, as {other.service.name} does"
                yield Mistake(
                    service.where("publishes", index), message, "let one service publish it, the noun's owner"
                )
    for service in contract.declared.services:
        for index, type_ in enumerate(service.options.subscribes):
            if type_ not in publisher:
                message = f"{service.service.name} subscribes to {type_!r}, which no service publishes"
                message += nearest(type_, publisher)
                remedy = f'name it where it comes from: `publishes: "{type_}"`; check all contracts together'
                yield Mistake(service.where("subscribes", index), message, remedy)
    for event in contract.declared.events:
        type_ = event.options.type
        if type_ not in publisher:
            message = f"no service publishes {type_!r}"
            yield Mistake(event.where("type"), message, f'name it in its service: `publishes: "{type_}"`')


INT003 = ContractRule(
    id="INT003",
    title="Each event has one service that publishes it, and each subscription an event that is published.",
    why=(
        "Services that know each other by events only are held together by these two lists; where they differ, one\n"
        "waits in vain and nothing fails. Name the contracts of the whole platform in one check."
    ),
    wrong="""\
// Payments.
service PaymentService {
  option (interlock.v1.service) = {subscribes: "order.created"};
}
""",
    right="""\
// Orders.
service OrderService {
  option (interlock.v1.service) = {publishes: "order.created"};
}

// Payments.
service PaymentService {
  option (interlock.v1.service) = {subscribes: "order.created"};
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
