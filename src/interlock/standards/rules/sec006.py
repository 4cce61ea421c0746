"""SEC006: what must not be seen is marked sensitive, and does not travel where it is seen anyway."""

import re
from collections.abc import Iterator

from protobuf import DescField, ScalarType

from interlock.contract.declared import DeclaredRpc
from interlock.contract.gen.interlock.v1.options_pb import ext_field
from interlock.contract.mistakes import Mistake
from interlock.contract.rest_shape import element_of, resolve
from interlock.standards.declarations import Declarations, fields, routes
from interlock.standards.rule import ContractRule

_TELLING = re.compile(
    r"(\A|_)(password|passphrase|passcode|secret|token|api_key|private_key|credentials?|authorization|card_number|cvv"
    r"|cvc|iban|account_number|ssn|social_security_number|tax_id|passport_number|date_of_birth|birth_date|birthday"
    r"|e?mail|email_address|phone|phone_number|street)\Z"
)
_PAGE_TOKENS = frozenset(("page_token", "next_page_token"))
_TEXT = (ScalarType.STRING, ScalarType.BYTES)


def _check(contract: Declarations) -> Iterator[Mistake]:
    for file in contract.files:
        for field, source in fields(file):
            name = f"{field.parent.name}.{field.name}"
            if _tells(field) and not _sensitive(field):
                remedy = "mark it: `[(interlock.v1.field) = {sensitive: true}]`"
                yield Mistake(source, f"{name} sounds secret or personal, and is not marked sensitive", remedy)
    for event in contract.declared.events:
        key = next((each for each in event.message.fields if each.name == event.options.key), None)
        if key is not None and _sensitive(key):
            message = f"{event.message.name}: its key {key.name!r} is sensitive, and a key travels in the clear"
            yield Mistake(event.where("key"), message, "order by an id")
    for rpc in contract.declared.rpcs:
        yield from _paths(rpc)


def _tells(field: DescField) -> bool:
    if field.name in _PAGE_TOKENS or not _TELLING.search(field.name):
        return False
    return element_of(field) in _TEXT


def _sensitive(field: DescField) -> bool:
    options = field.proto.options
    return options is not None and ext_field in options and options[ext_field].sensitive


def _paths(rpc: DeclaredRpc) -> Iterator[Mistake]:
    for route in routes(rpc):
        for variable in route.template.variables:
            try:
                field = resolve(rpc.method.input, variable.field)[-1]
            except KeyError:
                continue  # a mistake of the contract anyway
            if _sensitive(field):
                message = f"{rpc}: {variable.field!r} is sensitive, and paths stand in every log on the way"
                yield Mistake(route.source, message, "name the resource by an id")


SEC006 = ContractRule(
    id="SEC006",
    title="Fields that hold secrets or personal data are marked sensitive, and stand in no path and no key.",
    why=(
        "What is marked is masked in logs, traces and pages, by everything that reads the contract. The rule goes by\n"
        "names (password, token, card_number, email, phone, street …) of fields that hold text or bytes."
    ),
    wrong="""\
// Somebody who orders.
message Customer {
  // Given by the service.
  string id = 1;
  // Where they are written to.
  string email = 2;
}
""",
    right="""\
// Somebody who orders.
message Customer {
  // Given by the service.
  string id = 1;
  // Where they are written to.
  string email = 2 [(interlock.v1.field) = {sensitive: true}];
}
""",
    check=_check,
)
