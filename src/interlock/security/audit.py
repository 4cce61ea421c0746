"""The audit log: refusals and privileged calls, one structured line each on `interlock.audit`, never the credential.

It is written at every `log_level`: whoever turns the other logs down loses none of it.
"""

import logging

from interlock.call import Call

log = logging.getLogger("interlock.audit")
log.setLevel(logging.INFO)  # its own, not the root's; a line that passes it goes to all handlers


def refused(call: Call, reason: object) -> None:
    """Tell of a call that was not let in, and why; callers hear less."""
    log.warning(
        "%s refused a call of %s: %s",
        call.operation,
        call.peer.address or "this process",
        reason,
        extra={"audit": "refused", **_facts(call), "reason": str(reason)},
    )


def privileged(call: Call, permission: str) -> None:
    """Tell of a call that was let in and that the roles file says to keep an eye on."""
    subject = call.principal.subject if call.principal is not None else ""
    log.info(
        "%s by %s, who may: %s",
        call.operation,
        subject,
        permission,
        extra={"audit": "privileged", **_facts(call), "permission": permission},
    )


def refused_elsewhere(what: str, address: str, reason: str) -> None:
    """Tell of somebody who was refused `what` at a place that is no operation."""
    log.warning(
        "%s was refused to %s: %s",
        what,
        address,
        reason,
        extra={"audit": "refused", "operation": what, "address": address, "reason": reason},
    )


def administered(what: str, address: str) -> None:
    """Tell of an operator who changed the running process."""
    log.info("%s by %s", what, address, extra={"audit": "privileged", "operation": what, "address": address})


def _facts(call: Call) -> dict[str, object]:
    principal = call.principal
    facts: dict[str, object] = {
        "operation": call.operation.path,
        "protocol": call.protocol,
        "address": call.peer.address,
    }
    if principal is not None:
        facts |= {"principal": principal.subject, "issuer": principal.issuer}
        if principal.actors:
            facts["actors"] = list(principal.actors)
    return facts
