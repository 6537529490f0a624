"""Sending a request to the host that should carry it out: one hop, never a loop.

A forwarded request carries `Perdure-Forwarded`; whoever receives one carries it out itself. What is unknown after a
failure decides what may happen next: a connection that was never made is safe to run here, and so is any failure
of what may be repeated, such as a call with an idempotency key; a lost reply to anything else is reported as such.

A process that stands still keeps its connections and says nothing. So of what may be repeated no answer is waited for
any longer once the membership has lost the peer and nothing else that it is asked is answered either. A host that
is ending is not among the members, but answers.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp

from perdure.durable.records import HostRecord
from perdure.errors import InvocationTimeout, ProviderUnavailable, TooLarge

FORWARDED = "Perdure-Forwarded"
CALLERS = "Perdure-Callers"
"""Digests of the instances that wait for the call, with commas between them."""
LEAVING = "Perdure-Leaving"
"""On the refusal of a host that is ending. It has run nothing."""
_MAX_REPLY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ForwardedReply:
    """A peer's answer, passed on as it came."""

    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


def call_path(instance: str, function: str) -> str:
    """The request target of a call."""
    return f"/v1/instances/{quote(instance, safe='')}/functions/{quote(function, safe=':/@.')}"


class PeerUnreachable(Exception):
    """The peer did not take the request, or taking it twice is harmless: run it here."""


@dataclass(frozen=True, slots=True)
class PeerRequest:
    """A request as it goes to a peer. `path`: the raw request target. `repeatable`: taking it twice is harmless."""

    path: str
    body: bytes
    headers: Mapping[str, str]
    repeatable: bool
    method: str = "POST"


_PASSED_ON = ("Retry-After", "Idempotency-Replayed", "Perdure-Host", "Location", "Preference-Applied")


class Peers:
    """Forwards over one bounded connection pool."""

    def __init__(
        self, me: str, *, connections_per_host: int = 64, connect_timeout: float = 1.0, look: float = 0.25
    ) -> None:
        self._me = me
        self._connect_timeout = connect_timeout
        self._look = look
        self._connections = connections_per_host
        self._session: aiohttp.ClientSession | None = None

    async def forward(
        self, peer: HostRecord, request: PeerRequest, *, deadline: float, listed: Callable[[], bool]
    ) -> ForwardedReply:
        """`listed`: whether the peer is among the members now. Raises `PeerUnreachable`, `ProviderUnavailable` (outcome
        unknown, not repeatable), `InvocationTimeout` or `TooLarge` (the reply is)."""
        if not request.repeatable:
            return await self._sent(peer, request, deadline)
        sending = asyncio.ensure_future(self._sent(peer, request, deadline))
        try:
            while True:
                await asyncio.wait({sending}, timeout=self._look)
                if sending.done():
                    return sending.result()
                if not listed() and not await self._answers(peer) and not sending.done():
                    raise PeerUnreachable(str(peer.host))
        finally:
            sending.cancel()
            await asyncio.wait({sending})

    async def _sent(self, peer: HostRecord, request: PeerRequest, deadline: float) -> ForwardedReply:
        remaining = deadline - asyncio.get_running_loop().time()
        timeout = aiohttp.ClientTimeout(total=max(remaining, 0.05) + 0.5, sock_connect=self._connect_timeout)
        headers = {**request.headers, FORWARDED: self._me}
        try:
            async with self._get_session().request(
                request.method, peer.url + request.path, data=io.BytesIO(request.body), headers=headers, timeout=timeout
            ) as reply:
                if LEAVING in reply.headers:
                    raise PeerUnreachable(str(peer.host))
                data = await _whole(reply, peer.host)
                kept = {name: reply.headers[name] for name in _PASSED_ON if name in reply.headers}
                return ForwardedReply(reply.status, data, reply.content_type, kept)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PeerUnreachable(str(peer.host)) from error
        except TimeoutError as error:
            late = InvocationTimeout(f"host {peer.host} did not answer within the invocation's time")
            if not request.repeatable:
                late.not_again()
            raise late from error
        except aiohttp.ClientError as error:
            if request.repeatable:
                raise PeerUnreachable(str(peer.host)) from error
            lost = ProviderUnavailable(
                f"whether the request was carried out is unknown, the connection to host {peer.host} was lost"
            )
            raise lost.in_doubt(key=False) from error

    async def _answers(self, peer: HostRecord) -> bool:
        """Whether it says anything at all."""
        timeout = aiohttp.ClientTimeout(total=self._connect_timeout)
        try:
            async with self._get_session().get(peer.url + "/", timeout=timeout):
                return True
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close the pool; idempotent."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _get_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, limit_per_host=self._connections)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session


async def _whole(reply: aiohttp.ClientResponse, host: str) -> bytes:
    """The body; one read gives only what has arrived."""
    data = bytearray()
    async for chunk in reply.content.iter_any():
        data += chunk
        if len(data) > _MAX_REPLY:
            raise TooLarge(f"the call was carried out, and its result is over {_MAX_REPLY:,} bytes (host {host})")
    return bytes(data)
