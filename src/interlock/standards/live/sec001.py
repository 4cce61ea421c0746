"""SEC001: no token that is missing, stale, foreign or forged lets anybody in."""

from collections.abc import Iterator
from contextlib import suppress

from interlock.contract.mistakes import Mistake
from interlock.security.jwks import parse_jwks
from interlock.security.keys import load_keys
from interlock.security.refused import CredentialRefused
from interlock.security.tokens import AUDIENCE, ISSUER, Issuer, key_id
from interlock.standards.live.exchange import Answer
from interlock.standards.live.forged import Knowledge, claims_of, forged_tokens, throw_away_keys
from interlock.standards.live.target import Observed, Target, unseen
from interlock.standards.rule import LiveRule

JWKS = "/.well-known/jwks.json"


async def _probe(target: Target) -> Observed:
    route = next((each for each in target.routes if each.verb == "GET" and each.secured), None)
    if route is None:
        return unseen("/openapi.json names no GET operation that demands security")
    known = await _knowledge(target)
    breaches = [*_breaches(await target.send("GET", route.filled), "no token")]
    for what, token in forged_tokens(known, throw_away_keys()):
        answer = await target.send("GET", route.filled, {"authorization": f"Bearer {token}"})
        breaches += _breaches(answer, f"a token {what}")
    notes = [await _control(target, route.filled, known)]
    if known.signing is None:
        notes.append(
            "expired, of another audience and of another issuer were signed by a key that the service does not know; "
            "--keys DIR signs them by one that it trusts"
        )
    if not known.public:
        notes.append(f"{JWKS} publishes no key, so HS256 was tried with a public key that is not the service's")
    return Observed(breaches=tuple(breaches), notes=tuple(filter(None, notes)))


async def _knowledge(target: Target) -> Knowledge:
    kid, public = "", b""
    answer = await target.send("GET", JWKS)
    if answer.status == 200:
        with suppress(ValueError):
            kid, public = next(
                ((kid, key.as_pem(private=False)) for kid, key in parse_jwks(answer.body).items()), ("", b"")
            )
    token = target.token
    with suppress(CredentialRefused):  # a token of another kind cannot be forged
        kid = key_id(token) if token else kid
    signing = load_keys(target.keys) if target.keys is not None else None
    if signing is not None:
        kid, public = signing.kid, signing.private.as_pem(private=False)
    claims = claims_of(token)
    return Knowledge(
        kid=kid,
        public=public,
        issuer=_text(claims.get("iss")) or ISSUER,
        audience=_text(claims.get("aud")) or AUDIENCE,
        signing=signing,
        token=token if claims else "",
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


async def _control(target: Target, path: str, known: Knowledge) -> str:
    """Show a sound token: where that is refused too, the other refusals prove little. Return the note on it."""
    token = target.token
    if known.signing is not None and not token:
        token = Issuer(keys=known.signing, name=known.issuer, audience=known.audience).mint("interlock-check")
    if not token:
        return "no sound token was shown to compare with (--token or --keys)"
    answer = await target.send("GET", path, {"authorization": f"Bearer {token}"})
    return "the sound token was refused as well, so the other refusals prove little" if answer.status == 401 else ""


def _breaches(answer: Answer, shown: str) -> Iterator[Mistake]:
    if answer.status != 401:
        message = f"{shown} is answered with {answer.status}"
        remedy = "verify signature, algorithm, key, issuer, audience and expiry before all else; answer 401"
        yield Mistake(answer.source, message, remedy)
        return
    if "www-authenticate" not in answer.headers:
        yield Mistake(
            answer.source, f"{shown}: the 401 has no WWW-Authenticate", "add `WWW-Authenticate: Bearer` (RFC 6750)"
        )
    if answer.error.get("code") != "UNAUTHENTICATED":
        message = f"{shown}: the 401 has `error.code` {answer.error.get('code')!r}"
        yield Mistake(answer.source, message, "answer `UNAUTHENTICATED`")


SEC001 = LiveRule(
    id="SEC001",
    title="A token that is missing, expired, meant for others, changed or forged is answered with 401.",
    why=(
        "Each of these lets an outsider in where one check is forgotten. The verifier fixes algorithm, key, issuer\n"
        "and audience; what a token says of itself decides nothing (RFC 8725)."
    ),
    wrong='GET /api/v1/orders\nauthorization: Bearer (header {"alg": "none"})\n\nHTTP/1.1 200 OK',
    right='GET /api/v1/orders\nauthorization: Bearer (header {"alg": "none"})\n\n'
    "HTTP/1.1 401 Unauthorized\nwww-authenticate: Bearer",
    probe=_probe,
)
