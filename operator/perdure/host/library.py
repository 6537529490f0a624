"""The components of a host: the present one, and former ones from where the home store keeps them."""

from __future__ import annotations

import logging

from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine
from perdure.component.host import ImportResolver
from perdure.durable.components import ComponentLibrary
from perdure.durable.settings import UpdatePolicy
from perdure.durable.store import Store

log = logging.getLogger(__name__)


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
    """Where instances may outlive the Worker's component, the store keeps it for them. Raises `ProviderUnavailable`,
    `TooLarge`."""
    if policy is not UpdatePolicy.RESTART:
        await home.keep_component(digest, data)
