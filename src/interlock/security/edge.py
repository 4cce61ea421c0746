"""The trust edge: which metadata of a caller is dropped, and which may travel on to the next service."""

from collections.abc import Iterable

UNTRUSTED = frozenset(
    (
        b"baggage",
        b"forwarded-user",
        b"remote-user",
        b"x-authenticated-user",
        b"x-authenticated-userid",
        b"x-client-cert",
        b"x-client-dn",
        b"x-consumer-username",
        b"x-forwarded-client-cert",
        b"x-forwarded-email",
        b"x-forwarded-groups",
        b"x-forwarded-preferred-username",
        b"x-forwarded-user",
        b"x-jwt-payload",
        b"x-principal",
        b"x-remote-user",
        b"x-roles",
        b"x-ssl-client-cert",
        b"x-ssl-client-dn",
        b"x-user-email",
        b"x-user-id",
        b"x-user-roles",
        b"x-userinfo",
    )
)
"""Names under which proxies hand on who somebody is. Nothing vouches for them here, so no handler sees one."""

_OWN_WAY = frozenset((b"authorization", b"x-api-key", b"cookie", b"proxy-authorization", b"traceparent", b"tracestate"))


def may_travel(names: Iterable[str]) -> frozenset[bytes]:
    """Return the metadata names that a client hands on; ValueError for one that must not be, or goes its own way."""
    found = frozenset(name.lower().encode() for name in names)
    if wrong := sorted(each.decode() for each in found & (UNTRUSTED | _OWN_WAY)):
        raise ValueError(
            f"{wrong[0]} is not handed on: who asks is told by credentials, and traces travel by themselves"
        )
    return found
