"""gRPC-Web's server side: trailers in the body, and the text form in whatever pieces."""

from base64 import b64decode, b64encode

import pytest

from interlock import App
from interlock.protocols.grpc_wire import frame
from tests.protocols.grpc_exchange import ask, framed
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse, SumRequest, SumResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SUM
from tests.sample.handlers import make

WEB = (b"content-type", b"application/grpc-web")
TEXT = (b"content-type", b"application/grpc-web-text")
OK = b"\x80\x00\x00\x00\x10grpc-status: 0\r\n"


@pytest.fixture
def app() -> App:
    """The app, as an ASGI server would call it."""
    return make()


async def test_trailers_are_the_last_frame(app: App) -> None:
    """A reply is its message and a frame of trailers; nothing is asked of the server behind the body."""
    answer = await ask(app, ECHO.path, framed(EchoRequest(text="hello")), headers=[WEB])
    assert [each["type"] for each in answer.events] == ["http.response.start", "http.response.body"]
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.body == framed(EchoResponse(text="hello")) + OK


@pytest.mark.parametrize("size", [1, 3, 4, 7, 1000])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded parts"])
async def test_text_may_come_in_any_pieces(app: App, size: int, padded: bool) -> None:
    """Base64 of the whole body and of its parts are both read, however they are cut."""
    frames = [framed(SumRequest(number=number)) for number in range(10)]
    text = b"".join(map(b64encode, frames)) if padded else b64encode(b"".join(frames))
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    answer = await ask(app, SUM.path, *pieces, headers=[TEXT])
    assert answer.headers["content-type"] == "application/grpc-web-text+proto"
    body = b64decode(answer.body)
    assert body.endswith(OK)
    assert SumResponse.from_binary(body[5 : 5 + body[4]]).sum == 45


@pytest.mark.parametrize("body", [b"A", b"AAAA=", b"====", b"!!!!", b"AA=A", b"AAA"])
async def test_what_is_no_base64_is_internal(app: App, body: bytes) -> None:
    """A body in no text form is told as such."""
    answer = await ask(app, ECHO.path, body, headers=[TEXT])
    assert (answer.headers["grpc-status"], answer.body) == ("13", b"")


async def test_the_form_of_the_reply_may_be_asked_for(app: App) -> None:
    """`accept` decides where it names a form."""
    headers = [WEB, (b"accept", b"application/grpc-web-text")]
    answer = await ask(app, ECHO.path, frame(b""), headers=headers)
    assert b64decode(answer.body) == frame(b"") + OK


async def test_scripts_may_read_what_is_sent(app: App) -> None:
    """Every header of a refusal is exposed to a browser's script, the status among them."""
    answer = await ask(app, "/sample.v1.SampleService/Nobody", b"", headers=[WEB])
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} == set(exposed)
    assert answer.headers["grpc-status"] == "12"
