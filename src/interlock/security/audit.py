"""The audit log: refusals and privileged calls, one structured line each on `interlock.audit`, never the credential."""

import logging

from interlock.call import Call

log = logging.getLogger("interlock.audit")


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
