"""Leader election by a Lease (coordination.k8s.io): one operator reconciles, the others wait.

A holder that cannot renew for `duration` seconds stops its process; only then may another take over, since a
taker-over waits until the record has not changed for that long by its own clock (as client-go does: clocks of two
machines are never compared).
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time

from perdure.reconciler.api import KINDS, UNREACHED, ApiError, Cluster, Object

log = logging.getLogger(__name__)
LEASE = KINDS["Lease"]


class LeaderLost(Exception):
    """The lease could not be renewed: another operator may be reconciling now."""


class Leadership:
    """`acquire` waits for leadership; `hold` keeps it and raises `LeaderLost`."""

    def __init__(
        self, cluster: Cluster, namespace: str, name: str, identity: str, *, duration: int = 15, renew: float = 3.0
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew = renew
        self._seen: tuple[str, float] = ("", 0.0)
        self._renewed = 0.0
        self.leading = False

    async def acquire(self) -> None:
        """Wait until this operator is the leader."""
        while not await self._try():  # noqa: ASYNC110 - the state that is waited for lives in the cluster
            await asyncio.sleep(self._renew)
        self.leading = True
        log.info("leading", extra={"fields": {"identity": self._identity}})

    async def hold(self) -> None:
        """Renew for ever. An API server that does not answer at all is given up in time, too: `LeaderLost` comes before
        the lease has run out for the others."""
        loop = asyncio.get_running_loop()
        while True:
            until = self._renewed + self._duration - 2 * self._renew
            try:
                async with asyncio.timeout_at(until):
                    await asyncio.sleep(self._renew)
                    held = await self._try()
            except TimeoutError:
                held = False
            if not held and loop.time() >= until:
                self.leading = False
                raise LeaderLost(f"the lease {self._name} could not be renewed")

    async def release(self) -> None:
        """Let another operator take over at once."""
        if self.leading:
            self.leading = False
            try:
                held = await self._cluster.get(LEASE, self._namespace, self._name)
                if held is not None and held["spec"].get("holderIdentity") == self._identity:
                    await self._write(held, "")
            except (ApiError, *UNREACHED) as error:
                log.warning("the lease was not released, it expires by itself: %s", error)

    async def _try(self) -> bool:
        """Whether it is ours, from before the request on."""
        began = asyncio.get_running_loop().time()
        try:
            held = await self._cluster.get(LEASE, self._namespace, self._name)
            if held is None:
                await self._cluster.create(LEASE, self._namespace, self._record(None, self._identity))
                self._renewed = began
                return True
            holder = held["spec"].get("holderIdentity", "")
            if holder not in ("", self._identity) and not self._expired(held):
                return False
            await self._write(held, self._identity)
            self._renewed = began
            return True
        except (ApiError, *UNREACHED) as error:
            if not isinstance(error, ApiError) or error.status != 409:
                log.warning("the lease could not be read or written: %s", error)
            return False

    def _expired(self, held: Object) -> bool:
        version = held["metadata"]["resourceVersion"]
        if version != self._seen[0]:
            self._seen = (version, time.monotonic())
        limit: int = held["spec"].get("leaseDurationSeconds", self._duration)
        return time.monotonic() - self._seen[1] > limit

    async def _write(self, held: Object, holder: str) -> None:
        await self._cluster.replace(LEASE, self._namespace, self._name, self._record(held, holder))

    def _record(self, held: Object | None, holder: str) -> Object:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict(held["spec"]) if held else {}
        changed = spec.get("holderIdentity") != holder
        spec |= {"holderIdentity": holder, "leaseDurationSeconds": self._duration, "renewTime": now}
        if changed:
            spec |= {"acquireTime": now, "leaseTransitions": spec.get("leaseTransitions", 0) + 1}
        metadata: Object = {"name": self._name, "namespace": self._namespace}
        if held is not None:
            metadata["resourceVersion"] = held["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
