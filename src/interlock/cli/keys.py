"""`interlock keys …`: the keys that sign tokens, and tokens for development and for finding out what is wrong."""

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from interlock.cli.configured import configured

Directory = Annotated[
    Path | None, typer.Option("--keys", metavar="DIR", help="Directory of the keys; by default what the settings say.")
]


@dataclass(frozen=True, slots=True)
class _Configured:
    keys: Path
    issuer: str
    audience: str
    algorithm: str


def new(
    keys: Directory = None,
    bits: Annotated[int, typer.Option(min=2048, max=8192, help="Length of an RSA key.")] = 2048,
    algorithm: Annotated[
        str | None, typer.Option(help="RS256, ES256 or EdDSA; by default what the settings say.")
    ] = None,
) -> None:
    """Make a directory with a fresh key that signs tokens.

    The private key is readable for its owner alone; jwks.json beside it is what services verify with. A service takes
    one kind of signature (INTERLOCK_TOKEN_ALGORITHM), whatever a token says of itself.

      interlock keys new
      interlock keys new --keys /etc/shop/keys
      INTERLOCK_TOKEN_ALGORITHM=ES256 interlock keys new
    """
    from interlock.security.algorithms import ALGORITHMS
    from interlock.security.keys import JWKS, new_keys

    configured = _configured(keys)
    directory = configured.keys
    with _told():
        family = ALGORITHMS.get(algorithm or configured.algorithm)
        if family is None:
            raise ValueError(f"--algorithm is one of {', '.join(ALGORITHMS)}")
        made = new_keys(directory, algorithm=family, bits=bits)
    typer.echo(f"made key {made.kid} ({made.algorithm})")
    if family.name != configured.algorithm:
        typer.echo(f"services take it with INTERLOCK_TOKEN_ALGORITHM={family.name}")
    typer.echo(f"  private  {directory / made.kid}.pem  (keep it secret)")
    typer.echo(f"  public   {directory / JWKS}")
    typer.echo("next: TOKEN=$(interlock keys token --subject me --role ROLE)")


def rotate(
    keys: Directory = None,
    keep: Annotated[int, typer.Option(min=1, max=16, help="How many public keys stay published, newest first.")] = 3,
) -> None:
    """Put a fresh key in front; tokens of the former ones verify as long as these are published.

    Wait at least the lifetime of a token (1 h) between rotations, or keep more keys.

      interlock keys rotate
      interlock keys rotate --keep 1    # after a leak: every token there is stops counting within 5 minutes
    """
    from interlock.security.keys import rotate_keys

    directory = _configured(keys).keys
    with _told():
        rotated = rotate_keys(directory, keep=keep)
    typer.echo(f"key {rotated.kid} signs from now on; published: {len(rotated.published)}")


def list_(
    keys: Directory = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """List the published keys, newest first, with their age.

    The one that signs is marked; a directory without private keys only verifies.

      interlock keys list
      interlock keys list --json | jq '.[0].age_days'
    """
    from interlock.security.keys import JWKS, KeySetError, load_keys, published_keys

    directory = _configured(keys).keys
    with _told():
        published = published_keys(directory / JWKS)
    try:
        signing = load_keys(directory).kid
    except KeySetError:
        signing = ""  # a directory that only verifies
    at = datetime.now(UTC)
    rows: list[dict[str, Any]] = [
        {
            "kid": each.kid,
            "signs": each.kid == signing,
            "made": each.made.isoformat() if each.made else None,
            "age_days": (at - each.made).days if each.made else None,
        }
        for each in published
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        age = "of unknown age" if row["made"] is None else f"made {row['made'][:16]}, {row['age_days']} days ago"
        typer.echo(f"{'*' if row['signs'] else ' '} {row['kid']}  {age}")
    typer.echo("* signs" if signing else "none signs: there is no private key here")


def token(
    subject: Annotated[str, typer.Option("--subject", "-s", help="Who it names: a service or a person.")],
    role: Annotated[
        list[str] | None, typer.Option("--role", "-r", help="A role of it; give it again for more.")
    ] = None,
    audience: Annotated[str | None, typer.Option(help="For whom it is; by default what the settings say.")] = None,
    lifetime: Annotated[str, typer.Option(help='How long it counts, "30s" to "24h".')] = "1h",
    keys: Directory = None,
) -> None:
    """Print a fresh token, and nothing else.

    It is signed with the newest key, and names issuer and audience as the settings say.

      TOKEN=$(interlock keys token --subject me --role clerk)
      curl -H "authorization: Bearer $TOKEN" http://127.0.0.1:8080/api/v1/orders
      interlock keys token --subject me --role clerk | interlock keys verify -
    """
    from interlock.security.keys import load_keys
    from interlock.security.tokens import Issuer

    configured = _configured(keys)
    with _told():
        issuer = Issuer(keys=load_keys(configured.keys), name=configured.issuer, audience=configured.audience)
        minted = issuer.mint(subject, role or (), audience=audience, lifetime=duration(lifetime))
    typer.echo(minted)


def verify(
    given: Annotated[str, typer.Argument(metavar="TOKEN", help="The token, or - to read it from standard input.")],
    jwks: Annotated[
        str | None, typer.Option(help="JWKS file or URL to verify with; by default the one in the keys' directory.")
    ] = None,
    keys: Directory = None,
) -> None:
    """Tell what a token says, and whether a service with these settings takes it.

    Exits 1 where it does not, with the reason, which a service tells its log alone.

      interlock keys verify "$TOKEN"
      echo "$TOKEN" | interlock keys verify - --jwks https://id.example.com/jwks.json
    """
    import asyncio

    from interlock.errors import Unavailable
    from interlock.security.algorithms import ALGORITHMS
    from interlock.security.keys import JWKS
    from interlock.security.refused import CredentialRefused
    from interlock.security.tokens import TokenRules
    from interlock.security.verifier import Verifier

    configured = _configured(keys)
    place = jwks or configured.keys / JWKS
    text = sys.stdin.read().strip() if given == "-" else given.strip()
    for line in _described(text):
        typer.echo(line)
    with _told():
        rules = TokenRules(
            issuer=configured.issuer, audience=configured.audience, algorithm=ALGORITHMS[configured.algorithm]
        )
        verifier = Verifier.at(place, rules)
    try:
        asyncio.run(verifier.verify(b"Bearer " + text.encode("utf-8")))
    except (CredentialRefused, Unavailable) as refused:
        typer.echo(f"refused: {refused}", err=True)
        typer.echo(
            f"  a token is for {configured.audience!r}, by {configured.issuer!r}, with a key in {place}", err=True
        )
        raise typer.Exit(1) from refused
    typer.echo("it verifies")


def certs(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="What to make certificates for, a file each.")
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where they go.")] = Path("var/certs"),
    also: Annotated[
        list[str] | None, typer.Option("--san", help="Another name in it: DNS name, IP address, spiffe:// URI.")
    ] = None,
    trust_domain: Annotated[
        str, typer.Option(help="Puts spiffe://DOMAIN/NAME into each, which is who it is then.")
    ] = "",
    days: Annotated[int, typer.Option(min=1, max=825, help="How long they count.")] = 90,
) -> None:
    """Make a local certificate authority, once, and certificates of it for services and clients.

    Each serves both ends of mutual TLS. Run it again to renew them: running services follow within seconds, without a
    call refused. Give out authority.pem; authority.key signs whatever somebody wants, so keep it secret.

      interlock keys certs orders gateway --san localhost --san 127.0.0.1
      interlock keys certs orders --trust-domain shop

    A service shows one with INTERLOCK_TLS_CERTIFICATE=var/certs/orders.pem and INTERLOCK_TLS_KEY=var/certs/orders.key,
    and lets in only who shows one with INTERLOCK_TLS_CLIENT_AUTHORITIES=var/certs/authority.pem.
    """
    from interlock.security.certificates import AUTHORITY, CertificateError, issue, new_authority

    try:
        if not (directory / f"{AUTHORITY}.pem").exists():
            typer.echo(f"made the authority {new_authority(directory)}")
        for name in names or ():
            own = [f"spiffe://{trust_domain}/{name}"] if trust_domain else []
            certificate, key = issue(directory, name, [name, *(also or ()), *own], lifetime=timedelta(days=days))
            typer.echo(f"made {certificate} and {key.name}")
    except CertificateError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from error


def _described(token: str) -> Iterator[str]:
    """Yield what a token says of itself, believed or not."""
    claims = _claims(token)
    for name in ("sub", "iss", "aud", "roles"):
        if name in claims:
            yield f"{name:<6} {json.dumps(claims[name])}"
    for name in ("iat", "exp"):
        if isinstance(claims.get(name), int) and 0 <= claims[name] < 2**40:
            at = datetime.fromtimestamp(claims[name], UTC)
            left = int((at - datetime.now(UTC)).total_seconds())
            yield f"{name:<6} {at.isoformat()}  ({f'in {left} s' if left >= 0 else f'{-left} s ago'})"


def _claims(token: str) -> dict[str, Any]:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, IndexError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _configured(keys: Path | None) -> _Configured:
    """Return where keys stand and what tokens say, by the option, else by the settings here."""
    settings = configured()
    return _Configured(keys or settings.keys, settings.token_issuer, settings.token_audience, settings.token_algorithm)


def duration(text: str) -> timedelta:
    """Return the length of time that an option gives ("90d"); ValueError if it is none."""
    from pydantic import TypeAdapter, ValidationError

    from interlock.settings import Duration

    try:
        found: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        raise ValueError(f"--lifetime: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return found


@contextmanager
def _told() -> Iterator[None]:
    """Tell a mistake in a line, without a traceback."""
    from interlock.security.keys import KeySetError

    try:
        yield
    except (KeySetError, ValueError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    except OSError as error:
        typer.echo(f"{error.filename}: {error.strerror}", err=True)
        raise typer.Exit(1) from error
