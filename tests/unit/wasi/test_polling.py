"""Waits for an instant: the guest's clock agrees that it has come, though a timer fired early."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

from perdure.wasi import clocks, polling
from perdure.wasi.recorder import Plain
from perdure.wasi.state import WasiState


class Live:
    """Records nothing."""

    replaying = False

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        return produce()

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        return await produce()


class Replay(Live):
    """Gives what was recorded, whatever time it is."""

    replaying = True

    def __init__(self, *results: Plain) -> None:
        self.results = list(results)

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        return self.results.pop(0)

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        return self.results.pop(0)


def context(recorder: Any, now: list[int]) -> Any:
    return SimpleNamespace(wasi=WasiState(recorder, lambda: now[0], lambda: now[0], lambda count: b"\0" * count))


async def test_after_a_sleep_the_clock_is_not_before_its_end() -> None:
    now = [1_000]
    ctx = context(Live(), now)
    begun = clocks.monotonic_now(ctx)
    # A clock that stands still is a timer that fires much too early.
    await polling.block(ctx, clocks.subscribe_duration(ctx, 5_000))
    assert clocks.monotonic_now(ctx) - begun == 5_000
    # Of several only those that were ready count, and the clock goes on by itself.
    assert await polling.poll(ctx, [polling.Pollable(6_500), polling.Pollable(9_000)]) == [0]
    assert clocks.monotonic_now(ctx) == 6_500
    now[0] = 7_000
    assert polling.ready(ctx, polling.Pollable(6_900)) is True
    assert polling.ready(ctx, polling.Pollable(7_100)) is False
    assert clocks.monotonic_now(ctx) == 7_000


async def test_a_replay_leaves_the_same_clock() -> None:
    ctx = context(Replay([1], True), [0])
    assert await polling.poll(ctx, [polling.Pollable(9_000), polling.Pollable(6_500)]) == [1]
    assert ctx.wasi.latest_ns == 6_500
    assert polling.ready(ctx, polling.Pollable(7_000)) is True
    assert ctx.wasi.latest_ns == 7_000
