"""A component that componentize-py makes of Python: many core modules in one memory, on our runtime alone.

The host here is a dictionary; no durability engine and no store take part.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.types import Err, FuncType, Ok, Variant
from perdure.errors import ComponentUnsupported, GuestTrapped
from perdure.wasi.recorder import Plain
from perdure.wasi.resolver import WasiResolver
from perdure.wasi.state import WasiState
from support.guests import COMPILED

STORE = "wasi:keyvalue/store@0.2.0-draft"
pytestmark = pytest.mark.timeout(600)


class Live:
    """A recorder that keeps nothing."""

    replaying = False

    def expects(self, call: str) -> bool:
        return False

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        return produce()

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        return await produce()


class Buckets:
    """A resolver: WASI, and buckets that are dictionaries."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, bytes]] = {"counters": {}}
        self.open_handles = 0
        self._wasi = WasiResolver()

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        if interface != STORE:
            return self._wasi.function(interface, name, type)
        ours: dict[str, HostFunction] = {
            "open": self._open,
            "[method]bucket.get": self._get,
            "[method]bucket.set": self._set,
            "[method]bucket.delete": self._delete,
        }
        return ours.get(name, self._not_here)

    def resource(self, interface: str, name: str) -> HostResource | None:
        if interface != STORE:
            return self._wasi.resource(interface, name)
        return HostResource(self._drop)

    def _open(self, ctx: object, name: str) -> Ok | Err:
        if name not in self.kept:
            return Err(Variant("no-such-store"))
        self.open_handles += 1
        return Ok(self.kept[name])

    async def _get(self, ctx: object, bucket: dict[str, bytes], key: str) -> Ok:
        await asyncio.sleep(0)
        return Ok(bucket.get(key))

    def _set(self, ctx: object, bucket: dict[str, bytes], key: str, value: bytes) -> Ok:
        bucket[key] = value
        return Ok()

    def _delete(self, ctx: object, bucket: dict[str, bytes], key: str) -> Ok:
        bucket.pop(key, None)
        return Ok()

    def _not_here(self, ctx: object, *args: object) -> Err:
        return Err(Variant("other", "the counter does not need this"))

    def _drop(self, *args: object) -> None:
        self.open_handles -= 1


@pytest.fixture
async def component(counter: Path) -> AsyncIterator[Component]:
    with Engine(EngineConfig(cache_dir=COMPILED)) as engine:
        yield await Component.load(engine, counter.read_bytes())


async def instantiate(component: Component, host: Buckets, limits: InstanceLimits | None = None) -> Instance:
    state = WasiState(Live(), time.time_ns, time.monotonic_ns, os.urandom)
    return await component.bind(host).instantiate(SimpleNamespace(wasi=state), limits=limits)


async def call(instance: Instance, name: str, *args: object) -> object:
    found = {func.path: func for func in instance.bound.component.exports}
    return await instance.call(found[f"perdure:examples/counter.{name}"], args)


async def test_it_counts(component: Component) -> None:
    host = Buckets()
    instance = await instantiate(component, host)
    assert await call(instance, "add", 2) == Ok(2)
    assert await call(instance, "add", 2**64 - 3) == Ok(2**64 - 1)
    assert isinstance(await call(instance, "add", 1), Err)
    assert host.kept["counters"] == {"total": b"18446744073709551615"}
    assert await call(instance, "recent") == [2**64 - 3, 2]
    assert await call(instance, "reset") == Ok()
    assert host.kept["counters"] == {}
    assert host.open_handles == 0, "`with` gives every handle back, after an error too"
    other = await instantiate(component, host)
    assert await call(other, "recent") == [], "memory is an instance's own"
    instance.close()
    other.close()


async def test_errors_of_the_interface_reach_python(component: Component) -> None:
    host = Buckets()
    host.kept.clear()
    instance = await instantiate(component, host)
    assert await call(instance, "total") == Err("the Worker's manifest has no bucket 'counters'")
    host.kept["counters"] = {"total": b"forty"}
    with pytest.raises(GuestTrapped):
        await call(instance, "total")
    assert not instance.usable
    instance.close()


async def test_what_nobody_provides_is_named(component: Component) -> None:
    with pytest.raises(ComponentUnsupported, match=STORE):
        component.bind(WasiResolver())


async def test_too_little_memory_is_a_trap(component: Component) -> None:
    with pytest.raises(GuestTrapped):
        await instantiate(component, Buckets(), InstanceLimits(memory=4 << 20))
