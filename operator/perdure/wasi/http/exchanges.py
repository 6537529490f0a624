"""wasi:http/outgoing-handler: requests that leave the instance, each one's answer recorded.

A request is sent when the guest first looks for an answer and its body is finished: then there is a gate, so that
everything before it is durable, and the host sends all requests that are ready. The answer is recorded as a whole;
replay never sends. Between the sending and the next gate the answer is in memory only: after a crash there the same
request is sent again, under the same `Idempotency-Key`. What the guest does not wait for by the end of its invocation
is not sent, or given up.
"""

from __future__ import annotations

import asyncio
import hashlib

from perdure.component.types import Err, Ok, Variant
from perdure.wasi.http.bodies import Held, IncomingBody
from perdure.wasi.http.context import HttpContext
from perdure.wasi.http.fields import Fields
from perdure.wasi.http.incoming import IncomingResponse
from perdure.wasi.http.messages import (
    MAX_BODY,
    MAX_REQUESTS,
    HttpClient,
    HttpRequest,
    error_code,
    error_plain,
    method_name,
)
from perdure.wasi.http.outgoing import OutgoingRequest, RequestOptions
from perdure.wasi.polling import Pollable
from perdure.wasi.recorder import Plain
from perdure.wasi.state import WasiContext, WasiState

IDEMPOTENCY_KEY = "Idempotency-Key"
_UNFINISHED = error_plain("internal-error", "the guest waits for an answer before it has finished the body")
_BROKEN = error_plain("HTTP-protocol-error")
_GIVEN_UP = error_plain("connection-terminated")


class Exchange:
    """A request under way, and the resource `future-incoming-response`. Implements `Awaited`."""

    def __init__(self, exchanges: Exchanges, ordinal: int, request: OutgoingRequest, options: RequestOptions) -> None:
        self.ordinal = ordinal
        self.gated = False
        self.taken = False
        self.answer: Plain = None
        self.task: asyncio.Task[Plain] | None = None
        self._exchanges = exchanges
        self._request = request
        self._options = options
        self._body = b""
        self.complete = request.body is None
        if request.body is not None:
            if request.body.finished is None:
                request.body.ended = self._ended
            else:
                self._ended(request.body.finished)

    @classmethod
    def spent(cls, exchanges: Exchanges) -> Exchange:
        """One whose answer the guest has got."""
        made = cls(exchanges, 0, OutgoingRequest(Fields()), RequestOptions())
        made.answer, made.taken = _GIVEN_UP, True
        return made

    @property
    def name(self) -> str:
        return f"http.{self.ordinal}"

    @property
    def settled(self) -> bool:
        return self.answer is not None

    async def begin(self, state: WasiState) -> None:
        await self._exchanges.begin(state)

    def ready(self) -> bool:
        return self.settled or (self.task is not None and self.task.done())

    async def wait(self) -> None:
        if self.task is not None:
            await asyncio.wait([self.task])
        elif not self.complete and self.answer is None:
            # Nothing could ever finish it while the guest waits.
            self.task = asyncio.create_task(_at_once(_UNFINISHED))
            await asyncio.wait([self.task])

    async def observe(self, state: WasiState) -> None:
        if self.settled:
            return
        request = self._request
        args: tuple[Plain, ...] = (
            self.ordinal,
            method_name(request.method),
            request.authority,
            request.path,
            hashlib.blake2b(self._body, digest_size=8).digest(),
        )

        async def answer() -> Plain:
            await self.begin(state)
            await self.wait()
            assert self.task is not None
            return await self.task

        self.settle(await state.recorder.record_async("http.response", args, answer))

    def settle(self, answer: Plain) -> None:
        self.answer = answer
        self.task = None
        self._body = b""
        self._exchanges.forget(self)

    def give_up(self) -> None:
        """It will not be waited for any more."""
        if self.task is not None:
            self.task.cancel()
        if not self.settled:
            self.settle(_GIVEN_UP)

    def start(self, client: HttpClient, key: str) -> None:
        request, options = self._request, self._options
        headers = [(name, value) for name, value in request.headers.entries if name.lower() != "content-length"]
        if not request.headers.values(IDEMPOTENCY_KEY):
            headers.append((IDEMPOTENCY_KEY, key.encode()))
        sent = HttpRequest(
            method=method_name(request.method),
            scheme=scheme_of(request),
            authority=request.authority or "",
            path=request.path or "/",
            headers=tuple(headers),
            body=self._body,
            connect_ns=options.connect,
            first_byte_ns=options.first_byte,
            between_bytes_ns=options.between_bytes,
        )
        self.task = asyncio.create_task(client.send(sent))

    def _ended(self, finished: bool) -> None:
        """The guest has finished the body, or dropped it half written."""
        body = self._request.body
        assert body is not None
        self._body = body.sink.release()
        if self.settled:
            return
        if finished:
            self.complete = True
        else:
            self.settle(_BROKEN)


class Exchanges:
    """The requests of one instance. `invocation`: names the one under way for `Idempotency-Key`; None outside one."""

    def __init__(self, client: HttpClient | None) -> None:
        self.held = Held()
        self.invocation: str | None = None
        self._client = client
        self._open: dict[int, Exchange] = {}
        self._count = 0

    @property
    def max_body(self) -> int:
        return MAX_BODY if self._client is None else self._client.max_body

    def new(self, request: OutgoingRequest, options: RequestOptions) -> Exchange:
        self._count += 1
        exchange = Exchange(self, self._count, request, options)
        if not exchange.settled:
            self._open[exchange.ordinal] = exchange
        return exchange

    def refusal(self, state: WasiState, request: OutgoingRequest) -> Plain:
        """None, or why a request must not be sent: case and payload of an `error-code`."""
        if not request.authority or request.method.case == "connect":
            return ["HTTP-request-method-invalid" if request.authority else "HTTP-request-URI-invalid", None]
        if self.invocation is None:
            return ["internal-error", "HTTP requests are made within an invocation"]
        if len(self._open) >= MAX_REQUESTS:
            return ["connection-limit-reached", None]
        if self._client is None:
            why: str | None = "this host makes no HTTP requests"
        else:
            why = self._client.refusal(scheme_of(request), request.authority)
        if why is None:
            return None
        state.sink("perdure", f"an HTTP request to {request.authority} was denied: {why}".encode())
        return ["HTTP-request-denied", None]

    async def begin(self, state: WasiState) -> None:
        """Gate, and send what can be sent."""
        fresh = [exchange for exchange in self._open.values() if exchange.complete and not exchange.gated]
        if fresh:
            if state.gate is not None:
                await state.gate()
            for exchange in fresh:
                exchange.gated = True
        if state.recorder.replaying or self._client is None:
            return
        for exchange in list(self._open.values()):
            if exchange.gated and exchange.task is None:
                exchange.start(self._client, self._key(exchange.ordinal))

    def forget(self, exchange: Exchange) -> None:
        self._open.pop(exchange.ordinal, None)

    def begin_invocation(self, invocation: str) -> None:
        self.invocation = invocation
        self._count = 0

    def end_invocation(self) -> None:
        """Live and on replay: what was not waited for is given up. Idempotent."""
        self.invocation = None
        for exchange in list(self._open.values()):
            exchange.give_up()

    def _key(self, ordinal: int) -> str:
        """The same for the same request of the same invocation, whoever sends it and whenever."""
        return hashlib.blake2b(f"{ordinal}/{self.invocation}".encode(), digest_size=16).hexdigest()


async def _at_once(answer: Plain) -> Plain:
    return answer


def scheme_of(request: OutgoingRequest) -> str:
    return "http" if request.scheme is not None and request.scheme.case == "HTTP" else "https"


def handle(ctx: HttpContext, request: OutgoingRequest, options: RequestOptions | None) -> Ok | Err:
    state = ctx.wasi
    chosen = options or RequestOptions()
    headers: list[Plain] = [[name, value] for name, value in request.headers.entries]
    timeouts: list[Plain] = [chosen.connect, chosen.first_byte, chosen.between_bytes]
    args: tuple[Plain, ...] = (
        method_name(request.method),
        scheme_of(request),
        request.authority,
        request.path,
        headers,
        timeouts,
    )
    # Recorded, so that a changed manifest does not change the past.
    refused = state.recorder.record("http.handle", args, lambda: ctx.http.refusal(state, request))
    if refused is not None:
        if request.body is not None:
            request.body.give_up()
        return Err(error_code(refused))
    return Ok(ctx.http.new(request, chosen))


def subscribe(ctx: WasiContext, exchange: Exchange) -> Pollable:
    return Pollable(source=exchange)


def get(ctx: HttpContext, exchange: Exchange) -> object:
    """`option<result<result<incoming-response, error-code>>>`, or a coroutine of it. Never waits."""
    if exchange.taken:
        return Err()
    return _result(ctx, exchange) if exchange.settled else _look(ctx, exchange)


async def _look(ctx: HttpContext, exchange: Exchange) -> Ok | None:
    state = ctx.wasi
    await exchange.begin(state)
    if not exchange.settled:
        if not state.recorder.record("poll.ready", (exchange.name,), exchange.ready):
            return None
        await exchange.observe(state)
    return _result(ctx, exchange)


def _result(ctx: HttpContext, exchange: Exchange) -> Ok:
    exchange.taken = True
    answer = exchange.answer
    assert isinstance(answer, dict)
    exchange.answer = _GIVEN_UP
    if "error" in answer:
        return Ok(Err(error_code(answer["error"])))
    status, headers, body = answer["status"], answer["headers"], answer["body"]
    assert isinstance(status, int) and isinstance(headers, list) and isinstance(body, bytes)
    http = ctx.http
    http.held.take(len(body))
    entries = [(str(entry[0]), entry[1]) for entry in headers if isinstance(entry, list)]
    fields = Fields(((name, value) for name, value in entries if isinstance(value, bytes)), immutable=True)
    return Ok(Ok(IncomingResponse(status, fields, IncomingBody(body, http.held))))


def drop(ctx: WasiContext, exchange: Exchange) -> None:
    exchange.give_up()


def http_error_code(ctx: WasiContext, error: object) -> Variant | None:
    """Of an io error that a body's stream gave."""
    code = getattr(error, "code", None)
    return code if isinstance(code, Variant) else None
