"""Carrying out guests' HTTP requests: one bounded pool, no redirects, no proxies, no cookies, bodies up to a bound.

Implements `perdure.wasi.http.messages.HttpClient`. Whatever goes wrong is an `error-code` of the interface, so that
it can be recorded like an answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from perdure.errors import ManifestError
from perdure.host.egress import Egress
from perdure.manifests.worker import HTTP_CA, Http
from perdure.wasi.http.messages import HttpRequest, error_plain, visible
from perdure.wasi.recorder import Plain

_CONNECTIONS = 256
_PER_HOST = 64
_STALE = 3
"""Connections of the pool that a request may find closed before it gets one of its own or fails."""
_OWN_FIELDS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""Fields that the client would add; the guest's request is sent as it is."""


class _Prohibited(OSError):
    """The name is at addresses that guests must not reach."""


class _Resolver(AbstractResolver):
    """Names to addresses, without those that are prohibited: what is checked here is what is connected to."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._inner: AbstractResolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        allowed = [result for result in found if self._egress.may_reach(host, result["host"])]
        if found and not allowed:
            raise _Prohibited(f"{host} is at {found[0]['host']}")
        return allowed

    async def close(self) -> None:
        await self._inner.close()


class OutgoingHttp:
    """For all instances of this host. `close` when no guest runs any more. `secrets`: where Secrets are mounted.

    Raises `ManifestError` where the authority that is to be trusted cannot be read.
    """

    def __init__(self, settings: Http, secrets: Path = Path()) -> None:
        self._egress = Egress(settings.allow)
        self._trust = _trust(settings, secrets)
        self._timeout = settings.timeout / 1000
        self._max_body = settings.max_body_bytes
        self._session: aiohttp.ClientSession | None = None

    @property
    def max_body(self) -> int:
        return self._max_body

    def refusal(self, scheme: str, authority: str) -> str | None:
        return self._egress.refusal(scheme, authority)

    async def send(self, request: HttpRequest) -> Plain:
        try:
            url = URL(f"{request.scheme}://{request.authority}{_target(request.path)}", encoded=True)
            host = url.host or ""
        except ValueError:
            return error_plain("HTTP-request-URI-invalid")
        if _is_address(host) and not self._egress.may_reach(host, host):
            return error_plain("destination-IP-prohibited")
        stage = _Stage()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._sent(url, request, stage)
        except TimeoutError as error:
            return _timed_out(error, stage)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _failed(error)

    async def close(self) -> None:
        """Close the pool; idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _sent(self, url: URL, request: HttpRequest, stage: _Stage) -> Plain:
        """On another connection where one of the pool turns out to be closed: the server ended it while it was idle."""
        for _ in range(_STALE):
            try:
                return await self._exchange(url, request, stage)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not stage.reused or stage.answered:
                    raise
                stage.reused = False
        return await self._exchange(url, request, stage)

    async def _exchange(self, url: URL, request: HttpRequest, stage: _Stage) -> Plain:
        headers = [(name, value.decode()) for name, value in request.headers]
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_seconds(request.connect_ns), sock_read=_seconds(request.between_bytes_ns)
        )
        sending = self._get_session().request(
            request.method,
            url,
            data=request.body or None,
            headers=headers,
            timeout=timeout,
            allow_redirects=False,
            skip_auto_headers=_OWN_FIELDS,
            trace_request_ctx=stage,
        )
        async with asyncio.timeout(_seconds(request.first_byte_ns)):
            reply = await sending
        stage.answered = True
        async with reply:
            body = bytearray()
            async for chunk in reply.content.iter_any():
                body += chunk
                if len(body) > self._max_body:
                    reply.close()
                    return error_plain("HTTP-response-body-size", len(body))
            raw = [(name.decode("latin-1"), value) for name, value in reply.raw_headers]
            kept: list[Plain] = [[name, value] for name, value in visible(raw)]
            return {"status": reply.status, "headers": kept, "body": bytes(body)}

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=_CONNECTIONS,
                limit_per_host=_PER_HOST,
                resolver=_Resolver(self._egress),
                ttl_dns_cache=10,
                ssl=self._trust,
            )
            trace = aiohttp.TraceConfig()
            trace.on_connection_reuseconn.append(_reused)
            self._session = aiohttp.ClientSession(
                connector=connector,
                trace_configs=[trace],
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


class _Stage:
    """How far a request came. `reused`: on a connection that was there."""

    answered = False
    reused = False


async def _reused(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceConnectionReuseconnParams
) -> None:
    context.trace_request_ctx.reused = True


def _trust(settings: Http, secrets: Path) -> ssl.SSLContext | bool:
    """The system's authorities (or those of `SSL_CERT_FILE`), and the manifest's. True: the client's own context."""
    reference = None if settings.tls is None else settings.tls.ca_secret_ref
    if reference is None:
        return True
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_verify_locations(secrets / HTTP_CA / reference.key)
    except OSError as error:
        raise ManifestError(
            f"the key {reference.key!r} of Secret {reference.name} is not there, or holds no certificate in PEM "
            f"({error.strerror or error})",
            field="spec.http.tls.caSecretRef",
        ) from error
    return context


def _target(path: str) -> str:
    return path if path.startswith("/") else "/" + path


def _is_address(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    except OSError:
        return False
    return True


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else max(nanoseconds / 1e9, 0.001)


def _timed_out(error: TimeoutError, stage: _Stage) -> Plain:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return error_plain("connection-timeout")
    return error_plain("connection-read-timeout" if stage.answered else "HTTP-response-timeout")


def _failed(error: Exception) -> Plain:
    return next(answer(error) for kind, answer in _FAILURES if isinstance(error, kind))


def _of_connection(error: Exception) -> Plain:
    inner = getattr(error, "os_error", error)
    if isinstance(inner, _Prohibited):
        return error_plain("destination-IP-prohibited")
    if isinstance(inner, ConnectionRefusedError):
        return error_plain("connection-refused")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error_plain("DNS-error", {"rcode": None, "info-code": None})
    return error_plain("destination-unavailable")


_FAILURES: tuple[tuple[type[Exception], Callable[[Exception], Plain]], ...] = (
    (aiohttp.ClientConnectorCertificateError, lambda error: error_plain("TLS-certificate-error")),
    (aiohttp.ClientSSLError, lambda error: error_plain("TLS-protocol-error")),
    (aiohttp.ClientConnectorError, _of_connection),
    (aiohttp.ClientPayloadError, lambda error: error_plain("HTTP-response-incomplete")),
    (aiohttp.ClientResponseError, lambda error: error_plain("HTTP-protocol-error")),
    (aiohttp.InvalidURL, lambda error: error_plain("HTTP-request-URI-invalid")),
    (aiohttp.ClientError, lambda error: error_plain("connection-terminated")),
    (OSError, lambda error: error_plain("connection-terminated")),
    (Exception, lambda error: error_plain("HTTP-protocol-error")),
)
