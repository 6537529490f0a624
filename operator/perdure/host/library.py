"""The components of a host: the present one, and former ones from where the home store keeps them."""

from __future__ import annotations

import asyncio
import logging
import random

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.host import ImportResolver
from perdure.durable.components import ComponentLibrary
from perdure.durable.effects import BucketAddress, Put, Scope
from perdure.durable.foreign import apply_unrecorded
from perdure.durable.policy import RUNNING
from perdure.durable.settings import UpdatePolicy
from perdure.durable.store import Store
from perdure.errors import PerdureError

log = logging.getLogger(__name__)
_SAID = BucketAddress(Scope.WORKER, RUNNING)
_SAID_MS = 24 * 3600 * 1000
_MOST = 100


def component_library(
    present: BoundComponent, engine: Engine, interfaces: ImportResolver, home: Store
) -> ComponentLibrary:
    """Former components are loaded when an instance that runs on one is opened."""

    async def load(digest: str) -> BoundComponent | None:
        data = await home.component(digest)
        if data is None:
            return None
        log.info("loading a former component", extra={"fields": {"digest": digest}})
        return (await Component.load(engine, data)).bind(interfaces)

    return ComponentLibrary(present, load)


async def keep_component(policy: UpdatePolicy, digest: str, data: bytes, home: Store) -> None:
    """Where instances may outlive the Worker's component, the store keeps it for them.

    What another host runs, or did not long ago, is kept, too, though no instance runs on it yet: a host of the former
    component may start at any time in a rollout. Raises `ProviderUnavailable`, `TooLarge`.
    """
    if policy is not UpdatePolicy.RESTART:
        # Said before it is kept, so that nobody drops it in between.
        await apply_unrecorded(home, Put(_SAID, digest, b"", _SAID_MS))
        spared = (await home.keys(_SAID, None, _MOST)).keys
        await home.keep_component(digest, data, spared)


class Keeping:
    """`run()` as a task: says again what this host runs, and keeps it again if another one dropped it nevertheless (it
    had looked before this one spoke)."""

    def __init__(
        self, policy: UpdatePolicy, digest: str, data: bytes, home: Store, *, first: float = 60.0, then: float = 3600.0
    ) -> None:
        """Seconds."""
        # Nothing is kept with Restart, and the bytes need not be held.
        self._wanted = policy is not UpdatePolicy.RESTART
        self._what = (policy, digest, data if self._wanted else b"", home)
        self._pauses = (first, then)

    async def run(self) -> None:
        """For ever, or not at all."""
        pause, then = self._pauses
        while self._wanted:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            try:
                await keep_component(*self._what)
                pause = then
            except PerdureError as error:
                log.warning("the component could not be kept again: %s", error, extra={"fields": {"code": error.code}})
                pause = self._pauses[0]
