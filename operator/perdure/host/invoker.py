"""The way of a request through the host: whose instance is it, carry it out here or pass it on, and once more when
fenced.

Safety never depends on this module: the owner token inside every commit does that. Routing only keeps two hosts
from taking an instance from each other in turns; where they do all the same, `Ownership` makes them wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from perdure.component.plan import ExportedFunc
from perdure.durable.control import Verb
from perdure.durable.inbox import Accepted, NewCall
from perdure.durable.instance import Invocation, InvocationResult
from perdure.durable.records import HostRecord
from perdure.errors import Fenced, HostLeaving, InvocationTimeout, ProviderUnavailable
from perdure.host.inbox import Inbox
from perdure.host.instances import InstanceTable
from perdure.host.membership import Membership
from perdure.host.metrics import HostMetrics
from perdure.host.ownership import Ownership
from perdure.host.peers import ForwardedReply, PeerRequest, Peers, PeerUnreachable
from perdure.host.routing import preferred_host

log = logging.getLogger(__name__)
_ATTEMPTS = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Which instance a request is about, and how a peer gets it. `forwarded`: another host sent it here."""

    instance: str
    request: PeerRequest
    forwarded: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A synchronous call of a function. `callers`: digests of the instances that wait for it."""

    function: ExportedFunc
    arguments: bytes
    key: str | None
    callers: tuple[str, ...] = ()


class Invoker:
    """Routes requests between this host and its peers. Every method runs for `timeout` seconds at most, queueing
    included, and raises errors of `perdure.errors`."""

    def __init__(
        self,
        table: InstanceTable,
        inbox: Inbox,
        membership: Membership,
        peers: Peers,
        ownership: Ownership,
        metrics: HostMetrics,
        *,
        timeout: float,
    ) -> None:
        self._table = table
        self._inbox = inbox
        self._membership = membership
        self._peers = peers
        self._ownership = ownership
        self._metrics = metrics
        self._timeout = timeout

    async def invoke(self, target: Target, call: Call) -> InvocationResult | ForwardedReply:
        """Run a call where its instance is."""

        async def here(deadline: float) -> InvocationResult:
            return await self._table.invoke(
                target.instance, Invocation(call.function, call.arguments, call.key, deadline, call.callers)
            )

        return await self._routed(target, here)

    async def control(self, target: Target, verb: Verb) -> ForwardedReply | None:
        """Carry out what an operator wants where the instance is; None: it was here."""

        async def here(deadline: float) -> None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._table.control(target.instance, verb)
            except TimeoutError as error:
                raise InvocationTimeout(
                    f"{verb.value} was not carried out in time; whether it will be is unknown: look at the instance"
                ) from error
            self._inbox.resume(target.instance)

        return await self._routed(target, here)

    async def delete(self, target: Target, delete: Callable[[str], Awaitable[bool]]) -> ForwardedReply | bool:
        """Delete the instance where it is, so that nobody remembers it there; what `delete` gives, if that is here."""

        async def here(deadline: float) -> bool:
            try:
                async with asyncio.timeout_at(deadline):
                    return await delete(target.instance)
            except TimeoutError as error:
                raise InvocationTimeout("whether the instance was deleted is unknown: look for it") from error
            finally:
                self._table.forget(target.instance)
                self._ownership.forget(target.instance)
                self._inbox.forget(target.instance)

        return await self._routed(target, here, claims=False)

    async def accept(self, target: Target, call: NewCall) -> Accepted | ForwardedReply:
        """Accept an asynchronous call where its instance is, so that it starts at once; elsewhere it starts soon."""

        async def here(deadline: float) -> Accepted:
            return await self._inbox.accept(target.instance, call)

        return await self._routed(target, here, claims=False)

    async def _routed(
        self, target: Target, here: Callable[[float], Awaitable[T]], *, claims: bool = True
    ) -> T | ForwardedReply:
        """`claims`: carrying it out here takes the instance from whoever has it."""
        self._require_staying(target)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        may_forward = not target.forwarded
        attempts = 0
        while attempts < _ATTEMPTS:
            peer = preferred_host(target.instance, self._membership.hosts)
            if may_forward and peer is not None and peer.host != self._membership.me.host:
                try:
                    reply = await self._forwarded(peer, target, deadline)
                    self._metrics.forwarded("answered")
                    return reply
                except PeerUnreachable:
                    self._metrics.forwarded("unreachable")
                    log.info("host %s is not reachable: running its instance here", peer.host)
                    may_forward = False
            if claims and await self._waited(target.instance, deadline):
                # The membership may have learnt meanwhile whose instance it is.
                continue
            attempts += 1
            try:
                return await self._observed(target.instance, here(deadline), claims=claims)
            except Fenced:
                # Nothing was applied: the commit checks the token first. Look again whose instance it is.
                log.info("fenced", extra={"fields": {"instance": target.instance}})
                self._require_staying(target)
        raise ProviderUnavailable(f"instance {target.instance!r} keeps moving between hosts; try again")

    async def _forwarded(self, peer: HostRecord, target: Target, deadline: float) -> ForwardedReply:
        def listed() -> bool:
            return peer in self._membership.hosts

        return await self._peers.forward(peer, target.request, deadline=deadline, listed=listed)

    async def _observed(self, instance: str, work: Awaitable[T], *, claims: bool) -> T:
        if not claims:
            return await work
        with self._ownership.observed(instance):
            return await work

    async def _waited(self, instance: str, deadline: float) -> bool:
        """Whether this host had to wait before it may claim the instance. What it holds it need not claim."""
        delay = 0.0 if self._table.holds(instance) else self._ownership.delay(instance)
        if delay <= 0:
            return False
        if asyncio.get_running_loop().time() + delay >= deadline:
            raise ProviderUnavailable(f"instance {instance!r} keeps moving between hosts; try again", retry_after=delay)
        await asyncio.sleep(delay)
        return True

    def _require_staying(self, target: Target) -> None:
        """A host that is ending leaves instances to those that asked it, for they stay."""
        if target.forwarded and self._membership.leaving:
            raise HostLeaving("this host is ending; the host that was asked runs the call")
