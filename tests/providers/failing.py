"""What happens to a provider whose server fails: `patiently` for all, tests of buckets for etcd and NATS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Protocol, TypeVar

import pytest

from perdure.durable.effects import Counted, Increment, Outcome, Put
from perdure.durable.records import ForeignApply, WorkerId
from perdure.durable.store import ForeignStore
from perdure.errors import LostWrites, ProviderUnavailable
from providers.owners import SHOP
from support.proxy import cutting_proxy

T = TypeVar("T")
WORKER = WorkerId("ns", "carts")
Open = Callable[..., AbstractAsyncContextManager[ForeignStore]]
"""Opens a store on servers by their URLs; keywords are its configuration's."""


class Server(Protocol):
    port: int

    @property
    def url(self) -> str: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def restart(self) -> None: ...


def add(sequence: int, origin: str = "o") -> ForeignApply:
    return ForeignApply(origin, sequence, [Increment(SHOP, "n", 1), Put(SHOP, "k", b"%d" % sequence)])


async def eventually_applied(store: ForeignStore, apply: ForeignApply) -> list[Outcome]:
    return (await patiently(lambda: store.apply_foreign(apply))).outcomes


async def patiently(act: Callable[[], Awaitable[T]]) -> T:
    """As the engine does: an unavailable provider is asked again, with the very same request."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await act()
            except LostWrites:
                raise
            except ProviderUnavailable:
                await asyncio.sleep(0.05)


async def check_silent(server: Server, opened: Open) -> None:
    """It costs the timeout, and nothing is done twice."""
    async with opened(server.url, timeout=0.5) as store:
        await store.apply_foreign(add(1))
        server.pause()
        begun = time.monotonic()
        with pytest.raises(ProviderUnavailable, match="does not answer"):
            await store.apply_foreign(add(2))
        assert time.monotonic() - begun < 10
        server.resume()
        assert await eventually_applied(store, add(2)) == [Counted(2)]
        assert await store.get_many(SHOP, ["n", "k"]) == [b"2", b"2"]


async def check_cut_anywhere(server: Server, opened: Open, direction: str, cuts: range) -> None:
    """Cut after any number of bytes: each effect is there once."""
    scheme = server.url.partition("://")[0]
    async with cutting_proxy(server.port) as proxy, opened(f"{scheme}://127.0.0.1:{proxy.port}", timeout=1) as store:
        await store.apply_foreign(add(1))
        sequence = 1
        for cut in cuts:
            sequence += 1
            setattr(proxy, direction, cut)
            with suppress(ProviderUnavailable):
                await store.apply_foreign(add(sequence))
            proxy.let_through()
            await eventually_applied(store, add(sequence))
        assert await store.get_many(SHOP, ["n"]) == [b"%d" % sequence]


async def check_restarted(server: Server, opened: Open) -> None:
    """It has what it acknowledged."""
    async with opened(server.url, timeout=1) as store:
        await store.apply_foreign(add(1))
        server.restart()
        assert await eventually_applied(store, add(1)) == [Counted(1)]
        assert await store.get_many(SHOP, ["n"]) == [b"1"]
