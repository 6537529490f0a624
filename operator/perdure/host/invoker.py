"""The way of a call through the host: whose instance is it, run it here or pass it on, and once more when fenced.

Safety never depends on this module: the owner token inside every commit does that. Routing only keeps two hosts
from taking an instance from each other in turns.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from perdure.component.plan import ExportedFunc
from perdure.durable.instance import Invocation, InvocationResult
from perdure.durable.records import HostRecord
from perdure.errors import Fenced, HostLeaving, ProviderUnavailable
from perdure.host.instances import InstanceTable
from perdure.host.membership import Membership
from perdure.host.metrics import HostMetrics
from perdure.host.peers import ForwardedReply, Peers, PeerUnreachable
from perdure.host.routing import preferred_host

log = logging.getLogger(__name__)
_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class Call:
    """One request as it came in. `path` is the raw request target; `forwarded`: another host sent it here."""

    instance: str
    function: ExportedFunc
    arguments: bytes
    key: str | None
    path: str
    body: bytes
    forwarded: bool


class Invoker:
    """Routes calls between this host's instance table and its peers."""

    def __init__(
        self,
        table: InstanceTable,
        membership: Membership,
        peers: Peers,
        metrics: HostMetrics,
        *,
        timeout: float,
    ) -> None:
        self._table = table
        self._membership = membership
        self._peers = peers
        self._metrics = metrics
        self._timeout = timeout

    async def invoke(self, call: Call) -> InvocationResult | ForwardedReply:
        """Raises errors of `perdure.errors`. Runs for `limits.invocationTimeout` at most, queueing included."""
        self._require_staying(call)
        deadline = asyncio.get_running_loop().time() + self._timeout
        may_forward = not call.forwarded
        for _ in range(_ATTEMPTS):
            peer = preferred_host(call.instance, self._membership.hosts)
            if may_forward and peer is not None and peer.host != self._membership.me.host:
                try:
                    return await self._forward(call, peer, deadline)
                except PeerUnreachable:
                    self._metrics.forwarded("unreachable")
                    log.info("host %s is not reachable: running its instance here", peer.host)
                    may_forward = False
            invocation = Invocation(call.function, call.arguments, call.key, deadline)
            try:
                return await self._table.invoke(call.instance, invocation)
            except Fenced:
                # Nothing was applied: the commit checks the token first. Look again whose instance it is.
                log.info("fenced", extra={"fields": {"instance": call.instance}})
                self._require_staying(call)
        raise ProviderUnavailable(f"instance {call.instance!r} keeps moving between hosts; try again")

    def _require_staying(self, call: Call) -> None:
        """A host that is ending leaves instances to those that asked it, for they stay."""
        if call.forwarded and self._membership.leaving:
            raise HostLeaving("this host is ending; the host that was asked runs the call")

    async def _forward(self, call: Call, peer: HostRecord, deadline: float) -> ForwardedReply:
        headers = {"Content-Type": "application/json"}
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        reply = await self._peers.forward(peer, call.path, call.body, headers, deadline=deadline)
        self._metrics.forwarded("answered")
        return reply
