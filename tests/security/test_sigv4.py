"""AWS Signature Version 4: AWS's own test vectors, and botocore as the oracle for what they do not cover."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from interlock.call import Call, Direction
from interlock.metadata import Metadata
from interlock.security.secret import Secret
from interlock.security.sigv4 import UNSIGNED, AwsKeys, SigV4, aws_keys_from_environment, sign
from tests.sample.gen.sample.v1.sample_rpc import SAMPLE_SERVICE, WHISPER

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
KEYS = AwsKeys(access_key_id="AKIDEXAMPLE", secret_access_key=Secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
HEADERS = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]


@pytest.mark.parametrize(
    "method, query, signature",
    [
        ("GET", "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),  # get-vanilla
        ("POST", "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),  # post-vanilla
        ("GET", "Param1=value1&Param2=value2", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ],
)
def test_the_published_vectors(method: str, query: str, signature: str) -> None:
    """get-vanilla, post-vanilla, get-vanilla-query-order-key of the aws-sig-v4-test-suite."""
    found = sign(KEYS, method, "/", HEADERS, EMPTY, region="us-east-1", service="service", at=AT, query=query)
    assert found == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={signature}"
    )


async def test_a_call_is_signed_as_botocore_does() -> None:
    """With a session token too; nothing secret is in what is sent, nor in a repr."""
    from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
    from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    from botocore.credentials import Credentials  # type: ignore[import-untyped]

    keys = AwsKeys(access_key_id="AKID", secret_access_key=Secret("sekret"), session_token="session+token/==")
    given = SigV4("orders.example:443", region="eu-west-1", keys=keys, now=AT.timestamp)
    call = Call(SAMPLE_SERVICE.operation(WHISPER), Metadata([("x-other", "1")]), direction=Direction.SENT)
    await given.apply(call)

    class Fixed(SigV4Auth):  # type: ignore[misc]  # untyped
        def _modify_request_before_signing(self, request: Any) -> None:
            """Sign what is there."""

    request = AWSRequest(
        "POST", "https://orders.example:443" + call.operation.path, headers={"host": "orders.example:443"}
    )
    for name in ("x-amz-content-sha256", "x-amz-date", "x-amz-security-token"):
        request.headers[name] = call.metadata.get(name)
    request.context["timestamp"] = call.metadata.get("x-amz-date")
    signer = Fixed(Credentials("AKID", "sekret", "session+token/=="), "vpc-lattice-svcs", "eu-west-1")
    canonical = signer.canonical_request(request)
    expected = signer.signature(signer.string_to_sign(request, canonical), request)
    assert (call.metadata.get("authorization") or "").endswith(f"Signature={expected}")
    assert call.metadata.get("x-amz-content-sha256") == UNSIGNED
    assert "sekret" not in repr(given) + repr(keys) + str(call.metadata.raw)
    assert not await given.refresh()


async def test_keys_are_asked_for_each_time() -> None:
    """A source may rotate: each call is signed with what it gives then, and a refusal is worth another try."""
    current = SimpleNamespace(keys=KEYS)

    async def source() -> AwsKeys:
        return current.keys  # type: ignore[no-any-return]

    given = SigV4("h", region="r", keys=source)
    shown = []
    for number in range(2):
        current.keys = AwsKeys(access_key_id=f"AKID{number}", secret_access_key=Secret("s"))
        call = Call(SAMPLE_SERVICE.operation(WHISPER))
        await given.apply(call)
        shown.append(call.metadata.get("authorization") or "")
    assert ["Credential=AKID0/" in shown[0], "Credential=AKID1/" in shown[1]] == [True, True]
    assert await given.refresh()


def test_keys_of_the_environment() -> None:
    """Both are needed."""
    found = aws_keys_from_environment({"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"})
    assert (found.access_key_id, found.secret_access_key.reveal(), found.session_token) == ("a", "b", "")
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID"):
        aws_keys_from_environment({"AWS_ACCESS_KEY_ID": "a"})
