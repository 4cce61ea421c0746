"""AWS Signature Version 4 as a client's credential: each call is signed, nothing secret is sent.

Follows the AWS General Reference, "Signing AWS API requests". The payload is not signed (`UNSIGNED-PAYLOAD`), which
VPC Lattice and API Gateway take over TLS: a stream's has no end yet when its head is sent.
"""

import hashlib
import hmac
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias
from urllib.parse import quote

from interlock.call import Call, in_thread
from interlock.metadata import Metadata
from interlock.security.secret import Secret

_ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsKeys:
    """An access key; `session_token` goes with temporary ones."""

    access_key_id: str
    secret_access_key: Secret = field(repr=False)
    session_token: str = field(default="", repr=False)


AwsKeySource: TypeAlias = Callable[[], Awaitable[AwsKeys]]


def aws_keys_from_environment(environment: Mapping[str, str] | None = None) -> AwsKeys:
    """Return the keys in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; ValueError where none are."""
    given = os.environ if environment is None else environment
    if not given.get("AWS_ACCESS_KEY_ID") or not given.get("AWS_SECRET_ACCESS_KEY"):
        raise ValueError("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return AwsKeys(
        access_key_id=given["AWS_ACCESS_KEY_ID"],
        secret_access_key=Secret(given["AWS_SECRET_ACCESS_KEY"]),
        session_token=given.get("AWS_SESSION_TOKEN", ""),
    )


def aws_session() -> AwsKeySource:
    """Return what asks botocore: profiles, containers, instances, with the rotation of each. Needs `interlock[aws]`."""
    try:
        from botocore.session import get_session  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError as missing:
        raise ImportError("the keys of an AWS session need botocore: install interlock[aws]") from missing
    session = get_session()

    def read() -> AwsKeys:
        found = session.get_credentials()
        if found is None:
            raise ValueError("no AWS credentials were found")
        frozen = found.get_frozen_credentials()
        return AwsKeys(
            access_key_id=frozen.access_key,
            secret_access_key=Secret(frozen.secret_key),
            session_token=frozen.token or "",
        )

    async def source() -> AwsKeys:
        return await in_thread(read)

    return source


class SigV4:
    """Signs each call for `host` (as the server sees it), for a `service` of AWS in a `region`."""

    def __init__(
        self,
        host: str,
        *,
        region: str,
        service: str = "vpc-lattice-svcs",
        keys: AwsKeys | AwsKeySource,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._region = region
        self._service = service
        self._keys = keys
        self._now = now

    async def apply(self, call: Call) -> None:
        """Add date, hash and signature."""
        keys = self._keys if isinstance(self._keys, AwsKeys) else await self._keys()
        at = datetime.fromtimestamp(self._now(), UTC)
        headers = [("host", self._host), ("x-amz-content-sha256", UNSIGNED), ("x-amz-date", f"{at:%Y%m%dT%H%M%SZ}")]
        if keys.session_token:
            headers.append(("x-amz-security-token", keys.session_token))
        signed = sign(
            keys, "POST", call.operation.path, headers, UNSIGNED, region=self._region, service=self._service, at=at
        )
        call.metadata.extend(Metadata([*headers[1:], ("authorization", signed)]))

    async def refresh(self) -> bool:
        """Sign anew: the keys may have changed since."""
        return not isinstance(self._keys, AwsKeys)

    def __repr__(self) -> str:
        return f"SigV4({self._host!r}, region={self._region!r}, service={self._service!r})"


def sign(
    keys: AwsKeys,
    method: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    payload_hash: str,
    *,
    region: str,
    service: str,
    at: datetime,
    query: str = "",
) -> str:
    """Return the `authorization` of one request; `path` and `query` as they stand in it, names in lower case."""
    ordered = sorted((name, " ".join(value.split())) for name, value in headers)
    names = ";".join(name for name, _ in ordered)
    lines = "".join(f"{name}:{value}\n" for name, value in ordered)
    canonical = "\n".join((method, quote(path, safe="/-_.~%"), query, lines, names, payload_hash))
    scope = f"{at:%Y%m%d}/{region}/{service}/aws4_request"
    text = "\n".join((_ALGORITHM, f"{at:%Y%m%dT%H%M%SZ}", scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = ("AWS4" + keys.secret_access_key.reveal()).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.digest(key, text.encode(), hashlib.sha256).hex()
    return f"{_ALGORITHM} Credential={keys.access_key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
