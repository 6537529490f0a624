"""wasi:io/poll: pollables are instants of the instance's clock; an instant in the past is ready.

Live, a wait suspends the guest; on replay it returns at once with what was ready then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from perdure.component.traps import HostTrap
from perdure.wasi.state import WasiContext, WasiState

MAX_POLLABLES = 10_000
LONG_NS = 100_000_000
"""A wait of more than this is a gate."""


@dataclass(frozen=True, slots=True)
class Pollable:
    """`ready_at`: nanoseconds of the instance's clock; 0 is always ready."""

    ready_at: int = 0


def ready(ctx: WasiContext, pollable: Pollable) -> bool:
    state = ctx.wasi
    if pollable.ready_at == 0:
        return True
    return bool(state.recorder.record("poll.ready", (pollable.ready_at,), lambda: _now(state) >= pollable.ready_at))


async def block(ctx: WasiContext, pollable: Pollable) -> None:
    await poll(ctx, [pollable])


async def poll(ctx: WasiContext, pollables: Sequence[Pollable]) -> list[int]:
    """Indices of the ready ones, at least one. An empty list traps, as the interface says."""
    state = ctx.wasi
    if not pollables:
        raise HostTrap("wasi:io/poll.poll was called with an empty list")
    if len(pollables) > MAX_POLLABLES:
        raise HostTrap(f"wasi:io/poll.poll was called with more than {MAX_POLLABLES:,} pollables")
    instants = [pollable.ready_at for pollable in pollables]
    at_once = [index for index, instant in enumerate(instants) if instant == 0]
    if len(at_once) == len(instants):
        return at_once
    if not state.recorder.replaying and not at_once:
        if state.gate is not None and min(instants) - _now(state) > LONG_NS:
            await state.gate()
        delay = min(instants) - _now(state)
        if delay > 0:
            await asyncio.sleep(delay / 1_000_000_000)

    def look() -> list[int]:
        now = max(_now(state), min(instants))
        return [index for index, instant in enumerate(instants) if instant <= now]

    found = state.recorder.record("poll.poll", tuple(instants), lambda: list(look()))
    assert isinstance(found, list)
    return [int(index) for index in found if isinstance(index, int)]


def _now(state: WasiState) -> int:
    return max(state.wall_ns(), state.latest_ns)
