"""The durability engine over stores of a test's choice, without a host around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from perdure.component.component import BoundComponent
from perdure.durable.components import ComponentLibrary
from perdure.durable.environment import EngineEnvironment
from perdure.durable.instance import DurableInstance, Invocation, InvocationResult
from perdure.durable.policy import BucketCatalog, BucketPolicy
from perdure.durable.records import WorkerId
from perdure.durable.store import ForeignStore, Store
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld

WORKER = WorkerId("ns", "carts")
SECONDS = 30.0


def fresh_stores() -> dict[str, Store]:
    """An empty home, and another provider."""
    return {name: MemoryStore(MemoryWorld(), WORKER) for name in ("home", "away")}


def library(present: BoundComponent, *former: BoundComponent) -> ComponentLibrary:
    """A Worker's present component, and former ones that are still to be had."""

    async def load(digest: str) -> BoundComponent | None:
        return next((bound for bound in former if bound.component.digest == digest), None)

    return ComponentLibrary(present, load)


def environment(stores: Mapping[str, ForeignStore], *policies: BucketPolicy, **settings: object) -> EngineEnvironment:
    """`stores` with one called "home"; undeclared buckets are there."""
    catalog = BucketCatalog(policies, home="home", undeclared=True)
    fixed = {"worker": WORKER, "host": "one", "home": stores["home"], "stores": stores, "catalog": catalog}
    return EngineEnvironment(**{**fixed, **settings})  # type: ignore[arg-type]


def deadline(seconds: float = SECONDS) -> float:
    return asyncio.get_running_loop().time() + seconds


def invocation(bound: BoundComponent, name: str, *args: object, key: str | None = None) -> Invocation:
    """A call of the function with this short name."""
    function = next(func for func in bound.component.exports if func.name == name)
    return Invocation(function, json.dumps(args).encode(), key, deadline())


async def call(
    instance: DurableInstance | tuple[InstanceTable, str],
    bound: BoundComponent,
    name: str,
    *args: object,
    key: str | None = None,
) -> InvocationResult:
    """Invoke on an open instance, or through a table: (table, instance)."""
    what = invocation(bound, name, *args, key=key)
    if isinstance(instance, tuple):
        return await instance[0].invoke(instance[1], what)
    return await instance.invoke(what)
