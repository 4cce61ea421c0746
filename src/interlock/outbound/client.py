"""The client for HTTP APIs of third parties: an `httpx2.AsyncClient` whose requests are calls of the chassis."""

import logging
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from math import inf
from typing import Any

import httpx2

from interlock.call import Call, Direction, Handler, Layer, compose, current_call
from interlock.contract.model import Kind
from interlock.deadline import NEVER, Deadline, monotonic
from interlock.defaults import Placed, insert, sent_over_http
from interlock.errors import Cancelled, Error
from interlock.metadata import Metadata
from interlock.outbound.exchange import Exchange, Wire
from interlock.outbound.external import OTHER, VERBS, External, operation, operations
from interlock.protocols.client_tls import Tls
from interlock.protocols.http_pool import Host, Pool, host_of, load_engine, shared_pools
from interlock.resilience.circuit_breaker import BreakerPolicy
from interlock.resilience.concurrency import BulkheadPolicy
from interlock.resilience.neighbour import Neighbour
from interlock.resilience.policies import Policies, Target, said_in_code
from interlock.resilience.retry import RetryPolicy
from interlock.resilience.sent_deadline import first_of, late_wheel
from interlock.security.credentials import Credentials

_STREAMED = "interlock.streamed"
_SEEN = ("authorization", "idempotency-key", "x-request-id", "traceparent")
"""Fields of a request that layers look at, or would set themselves."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_KINDS = {
    (True, False): Kind.UNARY,
    (True, True): Kind.SERVER_STREAM,
    (False, False): Kind.CLIENT_STREAM,
    (False, True): Kind.BIDI_STREAM,
}


class HttpClient(httpx2.AsyncClient):
    """Calls one third party over HTTP, with retries, breaker, bulkhead, throttle and deadline around each request.

    `target` is what `settings.external("payments-provider")` gives, or a URL; `name` stands for it in metrics, traces
    and policies. `timeout` bounds a whole request: all attempts, the waits between them and the body; that of a single
    request replaces it, and what is left of the call being served bounds both. `credentials` are shown with every
    attempt; a caller's token never travels. `policy` names a preset, `retries`, `breaker` and `bulkhead` replace parts
    of it, the settings are stronger. Idempotent verbs are repeated, others only with an `Idempotency-Key`, none whose
    body is an iterator. `most` bounds a response's body, decompressed, unless it is streamed. Only the target's own
    host is called; redirects are not followed unless asked for, cookies are not kept, proxies of the environment not
    used.

    Statuses come back as responses. What comes in place of one is an `interlock.Error`: Unavailable (no connection, a
    broken one, `CircuitOpen`, `BulkheadFull`), DeadlineExceeded, ResourceExhausted (`Throttled`), TooLarge. Close it:
    `App(…, on_stop=[client.aclose])`. Belongs to the event loop that first used it.
    """

    def __init__(
        self,
        target: External | str,
        *,
        name: str = "",
        timeout: float | timedelta | None = None,
        credentials: Credentials | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        policy: str = "",
        retries: RetryPolicy | None = None,
        breaker: BreakerPolicy | None = None,
        bulkhead: BulkheadPolicy | None = None,
        layers: Iterable[Placed] = (),
        most: int = 4 * 1024 * 1024,
    ) -> None:
        external = target if isinstance(target, External) else External(name=name, url=target)
        base, host = host_of(external.url, tls)
        called_as = name or external.name or base.host
        limit = external.timeout if timeout is None else _seconds(timeout)
        if limit <= timedelta():
            raise ValueError("timeout must be above zero")
        if not _NAME.match(called_as):
            raise ValueError(f"{called_as!r} is no name: letters, digits, '-', '_' and '.' are; give another as `name`")
        called = Target(called_as, policies=external.policies)
        policies = Policies(called, code=said_in_code(policy, retries, breaker, bulkhead, timeout=limit))
        own = operations(called_as)
        policies.check(called_as, (each.path for each in own))
        for each in own:
            policies.of(each)  # what does not go together is told here, not by the first request
        opened_by = credentials or external.credentials or _Nothing()
        stack = sent_over_http(wheel=late_wheel(), to=Neighbour(policies, together=True), shown=opened_by)
        log = logging.getLogger("httpx2")
        if log.level == logging.NOTSET:
            log.setLevel(logging.WARNING)  # it would write every URL whole, with what is secret in its query
        self._policed = _Policed(host, called_as, policies, insert(stack, layers), most)
        super().__init__(
            base_url=base,
            headers={"user-agent": f"interlock/{version('interlock')}", **(headers or {})},
            timeout=None,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # of one user they are not for the next
            trust_env=False,
            transport=self._policed,
        )

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request; see `httpx2.AsyncClient.send`."""
        request.extensions = {**request.extensions, _STREAMED: stream}
        return await super().send(request, stream=stream, **options)


class _Policed(httpx2.AsyncBaseTransport):
    """Makes a call of each request, and sends it through the stack."""

    def __init__(self, host: Host, name: str, policies: Policies, layers: list[Layer], most: int) -> None:
        load_engine()
        self._host = host
        self._name = name
        self._policies = policies
        self._layers = layers
        self._most = most
        self._pool: Pool | None = None
        self._handlers: dict[tuple[str, Kind], Handler] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url, host = request.url, self._host
        if (url.scheme, url.host, url.port) != (host.scheme, host.name, host.port):
            raise ValueError(
                f"{url.scheme}://{url.netloc.decode()} is not {self._name}: a client calls one host, and shows it its "
                "credentials; make another HttpClient"
            )
        began = monotonic()
        exchange = Exchange(request, self._name)
        streamed = bool(request.extensions.get(_STREAMED))
        call, handler = self._begin(exchange, streamed=streamed)
        try:
            reply: Any = await (first_of(call, handler(call)) if streamed else handler(call))
            if streamed:
                head: httpx2.Response = await first_of(call, anext(reply))
                body = _Body(reply, call)
                return httpx2.Response(
                    head.status_code, headers=head.headers, stream=body, request=request, extensions=head.extensions
                )
        except BaseException as raised:
            error = _as_error(raised)
            call.end(error)
            if exchange.refused is not error or exchange.response is None:
                raise
            reply = exchange.response
        else:
            call.end()
        reply.elapsed = timedelta(seconds=monotonic() - began)  # httpx2 takes the time of streams alone
        return reply  # type: ignore[no-any-return]  # what `Wire` gives

    def _begin(self, exchange: Exchange, *, streamed: bool) -> tuple[Call, Handler]:
        request = exchange.request
        verb = request.method if request.method in VERBS else OTHER
        kind = _KINDS[isinstance(request.stream, httpx2.ByteStream), streamed]
        own = operation(self._name, verb, kind)
        timeout = (request.extensions.get("timeout") or {}).get("read")
        if timeout is None:
            timeout = (self._policies.of(own).timeout or timedelta.max).total_seconds()
        call = Call(
            own,
            Metadata.from_raw([(each.encode(), value.encode()) for each, value in _seen(request)]),
            Deadline(monotonic() + timeout) if timeout != inf else NEVER,
            Direction.SENT,
            exchange,
            protocol="http",
        )
        parent = current_call.get()
        if parent is not None:
            call.deadline = min(call.deadline, parent.deadline)
            call._request_id = parent.request_id
            if "x-request-id" not in call.metadata:
                call.metadata.add("x-request-id", parent.request_id)
        return call, self._handler(verb, kind)

    def _handler(self, verb: str, kind: Kind) -> Handler:
        if self._pool is None:
            self._pool = shared_pools().join(self._host)
            self._handlers.clear()
        found = self._handlers.get((verb, kind))
        if found is None:
            own = operation(self._name, verb, kind)
            found = compose(self._layers, own, Wire(self._pool, self._most).handler(own))
            self._handlers[verb, kind] = found
        return found

    async def aclose(self) -> None:
        """Let go of the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await shared_pools().leave(pool)


class _Body(httpx2.AsyncByteStream):
    """The body of a streamed response; its call ends with it."""

    def __init__(self, parts: AsyncIterator[bytes], call: Call) -> None:
        self._parts = parts
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._parts:
                yield part
        except BaseException as raised:
            self._call.end(_as_error(raised))
            raise
        self._call.end()

    async def aclose(self) -> None:
        try:
            await self._parts.aclose()  # type: ignore[attr-defined]  # a generator's
        finally:
            self._call.end(Cancelled("the caller closed the response"))


class _Nothing:
    """No credential: a third party is shown what was made for it, or nothing."""

    async def apply(self, _call: Call) -> None:
        return

    async def refresh(self) -> bool:
        return False


def _seen(request: httpx2.Request) -> Iterable[tuple[str, str]]:
    return ((name, request.headers[name]) for name in _SEEN if name in request.headers)


def _as_error(raised: BaseException) -> Error:
    if isinstance(raised, Error):
        return raised
    if isinstance(raised, Exception):
        return Error(f"{type(raised).__name__} before the request was sent")
    return Cancelled("the caller gave up")


def _seconds(timeout: float | timedelta) -> timedelta:
    try:
        return timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)
    except (OverflowError, ValueError) as wrong:
        raise ValueError(f"timeout must be above zero, and not {timeout!r} s") from wrong
