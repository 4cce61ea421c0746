"""What an app is made of, built from its settings: the parts that its layers share."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from protovalidate import Validator

from interlock.call import Principal
from interlock.defaults import Parts
from interlock.observability.bulkheads import Bulkheads
from interlock.observability.cloudwatch import CloudWatch
from interlock.observability.line_writer import LineWriter
from interlock.observability.logging import AccessLog, dropped_lines, wants_json
from interlock.observability.measure import Meter
from interlock.observability.metrics import Metrics
from interlock.observability.snapshots import DIRECTORY, shared
from interlock.observability.stores import observe_database
from interlock.observability.tracing import Tracing
from interlock.resilience.deadline import Wheel
from interlock.resilience.rate_limit import Limiter
from interlock.resilience.shedding import Shedder
from interlock.security.access import Roles, load_roles
from interlock.security.expiry import CertificateExpiry
from interlock.security.secret import secrets_measured

if TYPE_CHECKING:
    from interlock.data.database import Database
    from interlock.data.idempotency import StoredAnswers
    from interlock.data.purge import Purge
    from interlock.resilience.redis_limit import RedisCounts
    from interlock.security.api_keys import AccountStore, ApiKeys
    from interlock.security.mutual_tls import CertificateIdentities
    from interlock.security.token_endpoint import TokenEndpoint
    from interlock.security.verifier import Trusted, Verifier
    from interlock.settings import IssuerSettings, Settings


TOKENS = "/oauth/token"
"""Where tokens are given in development."""


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
    version: str = "",
) -> Parts:
    """Build the parts of the app called `name`; what is given replaces what the settings say."""
    roles = roles if roles is not None else load_roles(settings.roles)
    metrics = Metrics(name, version=version, shared=shared(name))
    lost = "Log lines that had no room while the log was slow."
    metrics.counter("service_log_lines_dropped", lost, dropped_lines)
    if settings.cloudwatch:
        period = settings.cloudwatch.total_seconds()
        metrics.cloudwatch = CloudWatch(name, metrics.requests, LineWriter(sys.stdout).write, period=period)
    _observe_credentials(settings, metrics)
    answers = _answers(database)
    tracing = tracing if tracing is not None else _tracing(name, version, settings, metrics)
    metrics.counter("service_spans_lost", "Spans that the collector did not get.", lambda: tracing.lost)
    if database is not None:
        observe_database(database, metrics, tracing)
    return Parts(
        tracing=tracing,
        metrics=metrics,
        callers=frozenset((*settings.known_callers, *roles.certificates)),
        meters=meters,
        access_log=_access_log(access_log, settings),
        wheel=Wheel(idle=settings.stream_idle_timeout.total_seconds()),
        shedder=_shedder(settings, metrics),
        validator=Validator(),
        verifier=verifier if verifier is not None else _verifier(settings),
        certificates=_certificates(roles, settings),
        api_keys=_api_keys(database, settings),
        roles=roles,
        acting=Principal(subject=settings.service_name or name, roles=frozenset(settings.service_roles)),
        limiter=_limiter(name, settings, metrics),
        answers=answers,
        database=database,
        purge=_purge(database, answers),
    )


def _observe_credentials(settings: "Settings", metrics: Metrics) -> None:
    secrets_measured(metrics)
    files = {"server": settings.tls_certificate, "client_authorities": settings.tls_client_authorities}
    CertificateExpiry({name: path for name, path in files.items() if path is not None}).measured(metrics)


def _tracing(name: str, version: str, settings: "Settings", metrics: Metrics) -> Tracing:
    return Tracing(
        name,
        endpoint=settings.otlp_endpoint.reveal() or None,
        ratio=settings.trace_ratio_in_force,
        heeds_callers=settings.trace_heeds_callers is not False,
        service_version=version,
        environment=settings.environment,
        headers={key: value.get_secret_value() for key, value in settings.otlp_headers.items()},
        sent=metrics.sent,
        external=metrics.outbound,
        breakers=metrics.breakers,
        bulkheads=Bulkheads(metrics).add,
        slow=settings.trace_slow.total_seconds(),
    )


def _shedder(settings: "Settings", metrics: Metrics) -> Shedder | None:
    if not settings.shed:
        return None
    shedder = Shedder(floor=settings.shed_floor, delay=settings.shed_delay)
    text = "Calls that may run at once; beyond it they are refused."
    metrics.gauge("service_concurrency_limit", text, lambda: shedder.limit.limit)
    counted = "Calls refused because the service was overloaded."
    metrics.counter("service_requests_shed", counted, lambda: _by_endpoint(shedder.refused), labels=("endpoint",))
    return shedder


def _limiter(name: str, settings: "Settings", metrics: Metrics) -> Limiter:
    directory = os.environ.get(DIRECTORY)
    limiter = Limiter(
        workers=settings.workers,
        by=settings.rate_limit_by,
        shared=Path(directory) / f"{quote(name, safe='')}.limits" if directory else None,
        redis=_redis(settings),
    )
    text = "Highest share of its rate limit that any caller has used lately."
    metrics.gauge("service_rate_limit_used_ratio", text, limiter.used, labels=("endpoint",), merge="max")
    return limiter


def _redis(settings: "Settings") -> "RedisCounts | None":
    url = settings.rate_limit_redis.reveal()
    if not url:
        return None
    from interlock.resilience.redis_limit import RedisCounts  # noqa: PLC0415 - where limits hold across hosts

    return RedisCounts(url, closed=settings.rate_limit_without_redis == "closed")


def _by_endpoint(counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(path,): float(count) for path, count in counts.items()}


def _verifier(settings: "Settings") -> "Verifier":
    from interlock.security.algorithms import ALGORITHMS  # noqa: PLC0415 - joserfc costs time, wanted where tokens are
    from interlock.security.tokens import TokenRules  # noqa: PLC0415
    from interlock.security.verifier import Verifier  # noqa: PLC0415

    rules = TokenRules(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        algorithm=ALGORITHMS[settings.token_algorithm],
    )
    others = [_trusted(each, settings) for each in settings.issuers.values()]
    return Verifier.at(settings.jwks.reveal() or settings.keys / "jwks.json", rules, others=others)


def _trusted(given: "IssuerSettings", settings: "Settings") -> "Trusted":
    from interlock.security.algorithms import ALGORITHMS  # noqa: PLC0415
    from interlock.security.jwks import discovered  # noqa: PLC0415
    from interlock.security.tokens import TokenRules  # noqa: PLC0415
    from interlock.security.verifier import trusted  # noqa: PLC0415

    rules = TokenRules(
        issuer=given.issuer,
        audience=given.audience or settings.token_audience,
        algorithm=ALGORITHMS[given.algorithm],
        longest=given.longest,
        roles={said: frozenset(roles) for said, roles in given.roles.items()},
        untyped=given.untyped,
    )
    return trusted(given.jwks.reveal() or discovered(given.issuer), rules)


def _api_keys(database: "Database | None", settings: "Settings") -> "ApiKeys | None":
    if not settings.accounts:
        return None
    from interlock.security.api_keys import ApiKeys  # noqa: PLC0415 - where API keys are taken

    store, own = _accounts(database, settings.accounts.reveal())
    return ApiKeys(store, pepper=settings.accounts_pepper.get_secret_value().encode(), database=own)


def _accounts(database: "Database | None", place: str) -> "tuple[AccountStore, Database | None]":
    """Return where accounts are kept, and the database to open for it where it is not the service's own."""
    if place != "database" and "://" not in place:
        from interlock.security.account_file import AccountFile  # noqa: PLC0415

        return AccountFile(Path(place)), None
    from interlock.data.accounts import StoredAccounts  # noqa: PLC0415 - with SQLAlchemy
    from interlock.data.database import Database  # noqa: PLC0415

    if place != "database":
        own = Database(place)
        return StoredAccounts(own), own
    if database is None:
        raise ValueError("INTERLOCK_ACCOUNTS is `database`, and the app has none: name a file, or a database's URL")
    return StoredAccounts(database), None


def _certificates(roles: Roles, settings: "Settings") -> "CertificateIdentities | None":
    if settings.tls_client_authorities is None:
        return None
    from interlock.security.mutual_tls import CertificateIdentities  # noqa: PLC0415 - under mutual TLS only

    return CertificateIdentities(roles.certificates)


def token_endpoint(settings: "Settings", api_keys: "ApiKeys | None") -> "TokenEndpoint | None":
    """Return what gives tokens for API keys, where the settings ask for it; ValueError where no keys are taken."""
    if not settings.token_endpoint:
        return None
    if api_keys is None:
        raise ValueError("INTERLOCK_TOKEN_ENDPOINT gives tokens for API keys: set INTERLOCK_ACCOUNTS too")
    from interlock.security.token_endpoint import TokenEndpoint  # noqa: PLC0415 - in development, where it is wanted

    return TokenEndpoint(api_keys, settings.keys, issuer=settings.token_issuer, audience=settings.token_audience)


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
        share = settings.log_successes
        return AccessLog(json_lines=json_lines, failures_only=quiet, successes=share) if wanted else None
    return wanted
