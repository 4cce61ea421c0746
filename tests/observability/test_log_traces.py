"""Log lines that can be found by their trace: access lines, and whatever is said while a call is served."""

import json
import logging
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from interlock import Call
from interlock.call import TraceContext, current_call
from interlock.observability.logging import AccessLog, configure_logging
from interlock.observability.tracing import Tracing
from tests.sample.gen.sample.v1.sample_pb import EchoRequest, EchoResponse
from tests.sample.gen.sample.v1.sample_rpc import ECHO, SAMPLE_SERVICE, SampleServiceClient
from tests.sample.handlers import Sample, make

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """All logs of the process as JSON; afterwards logging is as it was."""
    root, target = logging.getLogger(), StringIO()
    before_handlers, before_level = root.handlers[:], root.level
    configure_logging("info", "json", target)
    yield target
    root.handlers[:] = before_handlers
    root.setLevel(before_level)
    structlog.reset_defaults()


class Talking(Sample):
    """Says something by both doors while it answers."""

    async def echo(self, request: EchoRequest, call: Call) -> EchoResponse:
        logging.getLogger("shop").info("by the standard library")
        structlog.get_logger("shop").info("by structlog", request_id="its own")
        return EchoResponse(text=request.text)


async def test_every_line_of_a_call_has_its_trace(lines: StringIO) -> None:
    """The access line, and what a handler logs by either library, name trace, span and request alike."""
    written: list[str] = []
    app = make(Talking(), access_log=AccessLog(written.append), tracing=Tracing("orders", ratio=0.0))
    async with app, SampleServiceClient(app) as client:
        given = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01", "x-request-id": "r-1"}
        await client.using(metadata=given).echo(text="x")
    access = json.loads("".join(written))
    standard, own = (line for line in map(json.loads, lines.getvalue().splitlines()) if line["logger"] == "shop")
    assert access["trace_id"] == standard["trace_id"] == own["trace_id"] == TRACE_ID
    assert access["span_id"] == standard["span_id"] == own["span_id"] != SPAN_ID
    assert access["request_id"] == standard["request_id"] == "r-1"
    assert own["request_id"] == "its own"


async def test_lines_outside_a_call_have_no_trace(lines: StringIO) -> None:
    """What is said by nobody's order names no call; a call that is not traced names its request alone."""
    logging.getLogger("shop").warning("alone")
    call = Call(SAMPLE_SERVICE.operation(ECHO))
    token = current_call.set(call)
    logging.getLogger("shop").warning("served")
    call.trace = TraceContext(TRACE_ID, SPAN_ID, sampled=False)
    logging.getLogger("shop").warning("traced")
    current_call.reset(token)
    alone, served, traced = map(json.loads, lines.getvalue().splitlines())
    assert not {"trace_id", "span_id", "request_id"} & alone.keys()
    assert served["request_id"] == call.request_id
    assert "trace_id" not in served
    assert (traced["trace_id"], traced["span_id"]) == (TRACE_ID, SPAN_ID)
