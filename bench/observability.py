"""What observability costs one call, layer by layer, in a loop without sockets: `python -m bench.observability`.

What happens to calls while collector, log and scraper are slow or gone: `python -m bench.neighbours`.

The figures are CPU microseconds of this process on top of a chain that has no layer; the least of several rounds
counts, because what else runs on the machine only ever adds.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from statistics import mean
from typing import Any

from interlock.call import Call, Direction, Handler, Layer, Middleware, Outcome, Reply, compose, current_call
from interlock.metadata import Metadata
from interlock.observability.logging import AccessLog, log
from interlock.observability.measure import metrics, metrics_of_caller
from interlock.observability.metrics import Metrics
from interlock.observability.tracing import Tracing, attempt, trace
from shop.gen.api.order.v1.order_rpc import GET_ORDER, ORDER_SERVICE

CALLS, ROUNDS = 20_000, 7
HEAD = (
    (b"user-agent", b"grpc-python/1.85"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"grpc-timeout", b"1S"),
    (b"x-request-id", b"01900000-0000-7000-8000-000000000000"),
)
CALLER = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")
SAMPLED_CALLER = (CALLER[0], CALLER[1][:-1] + b"1")
OPERATION = ORDER_SERVICE.operation(GET_ORDER)
REPLY: Any = GET_ORDER.reply_type()


class _Discard:
    """A collector that takes everything at once, so that only this side is measured."""

    taken = lost = left_out = 0

    def export(self, spans: Any) -> Any:
        self.taken += len(spans)
        from opentelemetry.sdk.trace.export import SpanExportResult  # noqa: PLC0415 - loaded by `start`

        return SpanExportResult.SUCCESS

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True

    def hasten(self) -> None: ...


def chain(layers: Iterable[Layer]) -> Handler:
    """Compose the layers around a handler that does nothing."""

    async def handle(_call: Call) -> Reply:
        return REPLY  # type: ignore[no-any-return]

    return compose(layers, OPERATION, handle)


async def measured(handler: Handler, head: Iterable[tuple[bytes, bytes]], direction: Direction) -> float:
    """Return CPU seconds of one call: made, handled, ended."""
    begun = time.process_time()
    for _ in range(CALLS):
        metadata = Metadata.from_raw(list(head))
        metadata.header(b"content-type")  # as every front does first, which indexes the names
        call = Call(OPERATION, metadata, direction=direction, protocol="grpc")
        await handler(call)
        call.end()
    return (time.process_time() - begun) / CALLS


def encoding() -> float:
    """Return CPU seconds of encoding and packing one span, which the exporting thread does."""
    import gzip  # noqa: PLC0415 - only here

    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415 - the SDK

    tracing = exporting(1.0)
    call = Call(OPERATION, Metadata.from_raw(list(HEAD)), protocol="grpc")
    tracing.arrived(call)
    span = tracing._spans._span(Outcome(call, None, 0.001), call.trace)  # type: ignore[union-attr, arg-type]
    batch, rounds = [span] * 512, []
    for _ in range(ROUNDS):
        begun = time.process_time()
        gzip.compress(encode_spans(batch).SerializeToString(), 1)
        rounds.append((time.process_time() - begun) / len(batch))
    return min(rounds)


def exporting(ratio: float) -> Tracing:
    """Return tracing that makes spans and throws them away behind the queue."""
    from interlock.observability.spans import Spans  # noqa: PLC0415 - the SDK, only here

    tracing = Tracing("bench", endpoint="http://127.0.0.1:9", ratio=ratio)
    tracing._spans = Spans({"service.name": "bench"}, _Discard(), queue=1 << 20, delay=1.0)  # type: ignore[arg-type]
    return tracing


def sized(_operation: object) -> Middleware:
    """Note sizes, as a front does."""

    def note(call: Call, proceed: Handler) -> Awaitable[Reply]:
        call.request_bytes, call.reply_bytes = 30, 300
        return proceed(call)

    return note


def cases() -> dict[str, tuple[list[Layer], tuple[tuple[bytes, bytes], ...], Direction]]:
    """Return what is measured: layers, head, direction."""
    served, sent = Direction.SERVED, Direction.SENT
    quiet, dropping, all_sampled = Tracing("bench", ratio=0.0), exporting(0.0), exporting(1.0)
    meter = Metrics("bench")
    access = AccessLog(lambda _text: None)
    plain: tuple[tuple[bytes, bytes], ...] = HEAD
    return {
        "trace, served, no collector": ([trace(quiet)], plain, served),
        "trace, served, not sampled": ([trace(dropping)], plain, served),
        "trace, served, caller's, not sampled": ([trace(dropping)], (*HEAD, CALLER), served),
        "trace, served, sampled": ([trace(all_sampled)], plain, served),
        "trace, served, caller's, sampled": ([trace(all_sampled)], (*HEAD, SAMPLED_CALLER), served),
        "trace, sent, not sampled": ([trace(dropping)], (), sent),
        "trace, sent, sampled": ([trace(all_sampled)], (), sent),
        "trace and attempt, sent, sampled": ([trace(all_sampled), attempt(all_sampled)], (), sent),
        "metrics, served": ([metrics(meter.served)], plain, served),
        "metrics and sizes, served": ([metrics(meter.served), sized], plain, served),
        "metrics, sent": ([metrics(meter.sent)], (), sent),
        "metrics of the caller, sent": ([metrics_of_caller()], (), sent),
        "access log": ([log(access)], plain, served),
        "all, served, not sampled": ([trace(dropping), metrics(meter.served), log(access)], plain, served),
    }


async def run(tell: Callable[[str], object]) -> None:
    """Measure every case against the bare chain, in turn, round after round."""
    found: dict[str, list[float]] = {}
    bare: list[float] = []
    named = {name: (chain(layers), head, direction) for name, (layers, head, direction) in cases().items()}
    nothing = chain([])
    current_call.set(None)
    for _ in range(ROUNDS):
        bare.append(await measured(nothing, HEAD, Direction.SERVED))
        for name, (handler, head, direction) in named.items():
            found.setdefault(name, []).append(await measured(handler, head, direction))
    tell(f"{'bare chain':40} {min(bare) * 1e6:6.2f} µs")
    tell(f"{'export, each sampled span, in its thread':40} {encoding() * 1e6:+6.2f} µs")
    for name, times in found.items():
        least = (min(times) - min(bare)) * 1e6
        tell(f"{name:40} {least:+6.2f} µs  (mean {(mean(times) - mean(bare)) * 1e6:+.2f})")


if __name__ == "__main__":
    asyncio.run(run(print))
