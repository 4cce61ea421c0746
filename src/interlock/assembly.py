"""What an app is made of, built from its settings: the parts that its layers share."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from protovalidate import Validator

from interlock.call import Principal
from interlock.defaults import Parts
from interlock.observability.logging import AccessLog, wants_json
from interlock.observability.measure import Meter
from interlock.observability.metrics import Metrics
from interlock.observability.snapshots import shared
from interlock.observability.tracing import Tracing
from interlock.resilience.deadline import Wheel
from interlock.resilience.rate_limit import Limiter
from interlock.security.access import Roles, load_roles

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.idempotency import StoredAnswers
    from interlock.data.purge import Purge
    from interlock.security.mutual_tls import CertificateIdentities
    from interlock.security.verifier import Verifier
    from interlock.settings import Settings


def assemble(
    name: str,
    settings: "Settings",
    *,
    database: "Database | None",
    roles: Roles | None,
    verifier: "Verifier | None",
    tracing: Tracing | None,
    meters: Sequence[Meter],
    access_log: AccessLog | bool,
) -> Parts:
    """Build the parts of the app called `name`; what is given replaces what the settings say."""
    roles = roles if roles is not None else load_roles(settings.roles)
    metrics = Metrics(name, shared=shared(name))
    answers = _answers(database)
    return Parts(
        tracing=tracing if tracing is not None else _tracing(name, settings, metrics),
        metrics=metrics,
        meters=meters,
        access_log=_access_log(access_log, settings),
        wheel=Wheel(idle=settings.stream_idle_timeout.total_seconds()),
        validator=Validator(),
        verifier=verifier if verifier is not None else _verifier(settings),
        certificates=_certificates(roles, settings),
        roles=roles,
        acting=Principal(subject=settings.service_name or name, roles=frozenset(settings.service_roles)),
        limiter=Limiter(workers=settings.workers),
        answers=answers,
        database=database,
        purge=_purge(database, answers),
    )


def _tracing(name: str, settings: "Settings", metrics: Metrics) -> Tracing:
    return Tracing(
        name,
        endpoint=settings.otlp_endpoint or None,
        ratio=settings.trace_ratio_in_force,
        heeds_callers=settings.trace_heeds_callers,
        environment=settings.environment,
        headers={key: value.get_secret_value() for key, value in settings.otlp_headers.items()},
        sent=metrics.sent,
    )


def _verifier(settings: "Settings") -> "Verifier":
    from interlock.security.tokens import TokenRules  # noqa: PLC0415 - joserfc costs time, wanted where tokens are
    from interlock.security.verifier import Verifier  # noqa: PLC0415

    rules = TokenRules(issuer=settings.token_issuer, audience=settings.token_audience)
    return Verifier.at(settings.jwks or settings.keys / "jwks.json", rules)


def _certificates(roles: Roles, settings: "Settings") -> "CertificateIdentities | None":
    if settings.tls_client_authorities is None:
        return None
    from interlock.security.mutual_tls import CertificateIdentities  # noqa: PLC0415 - under mutual TLS only

    return CertificateIdentities(roles.certificates)


def _answers(database: "Database | None") -> "StoredAnswers | None":
    if database is None:
        return None
    from interlock.data.idempotency import StoredAnswers  # noqa: PLC0415 - with SQLAlchemy, where there is a database

    return StoredAnswers(database)


def _purge(database: "Database | None", answers: "StoredAnswers | None") -> "Purge | None":
    if database is None or answers is None:
        return None
    from interlock.data.purge import Purge  # noqa: PLC0415 - with SQLAlchemy, where there is a database

    return Purge(database, answers)


def _access_log(wanted: AccessLog | bool, settings: "Settings") -> AccessLog | None:
    if isinstance(wanted, bool):
        quiet = settings.log_level in ("warning", "error")
        json_lines = wants_json(settings.log_format, sys.stderr)
        return AccessLog(json_lines=json_lines, failures_only=quiet) if wanted else None
    return wanted
