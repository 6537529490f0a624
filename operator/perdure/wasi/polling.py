"""wasi:io/poll. A pollable waits for an instant of the instance's clock, or for something outside (`Awaited`).

Live, a wait suspends the guest; on replay it returns at once with what was ready then. Whatever came from outside is
recorded in the same call that said it was ready, so that reading it afterwards is no question of time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perdure.component.traps import HostTrap
from perdure.wasi.recorder import Plain
from perdure.wasi.state import WasiContext, WasiState

MAX_POLLABLES = 10_000
LONG_NS = 100_000_000
"""A wait of more than this is a gate."""
LEAVES_NS = 10_000_000_000
"""For a wait of more than this, for clocks alone, memory is given up where the call goes on without it."""


class Awaited(Protocol):
    """Something outside that becomes ready."""

    @property
    def name(self) -> str:
        """Tells it from others of its instance in the journal."""

    @property
    def settled(self) -> bool:
        """It is ready, and what it gave is recorded: nothing is left to chance."""

    async def begin(self, state: WasiState) -> None:
        """The guest is about to look: set it going. On replay, too, where only gates are passed."""

    def ready(self) -> bool:
        """Live only, after `begin`."""

    async def wait(self) -> None:
        """Until it is ready. Live only, after `begin`; may be cancelled."""

    async def observe(self, state: WasiState) -> None:
        """Record what it gave, which settles it; live, that waits where it must."""


@dataclass(frozen=True, slots=True)
class Pollable:
    """`ready_at`: nanoseconds of the instance's clock; 0 is always ready, unless it waits for `source`."""

    ready_at: int = 0
    source: Awaited | None = None

    @property
    def at_once(self) -> bool:
        return self.ready_at == 0 and (self.source is None or self.source.settled)

    @property
    def pending(self) -> Awaited | None:
        """What it waits for and has not got."""
        return None if self.source is None or self.source.settled else self.source


def ready(ctx: WasiContext, pollable: Pollable) -> object:
    """A bool, or a coroutine of one."""
    state = ctx.wasi
    if pollable.at_once:
        return True
    source = pollable.source
    if source is not None:
        return _look(state, source)
    found = bool(state.recorder.record("poll.ready", (pollable.ready_at,), lambda: _now(state) >= pollable.ready_at))
    if found:
        _passed(state, pollable.ready_at)
    return found


async def _look(state: WasiState, source: Awaited) -> bool:
    await source.begin(state)
    found = bool(state.recorder.record("poll.ready", (source.name,), source.ready))
    if found:
        await source.observe(state)
    return found


async def block(ctx: WasiContext, pollable: Pollable) -> None:
    await poll(ctx, [pollable])


async def poll(ctx: WasiContext, pollables: Sequence[Pollable]) -> list[int]:
    """Indices of the ready ones, at least one. An empty list traps, as the interface says."""
    state = ctx.wasi
    if not pollables:
        raise HostTrap("wasi:io/poll.poll was called with an empty list")
    if len(pollables) > MAX_POLLABLES:
        raise HostTrap(f"wasi:io/poll.poll was called with more than {MAX_POLLABLES:,} pollables")
    at_once = [index for index, pollable in enumerate(pollables) if pollable.at_once]
    if len(at_once) == len(pollables):
        return at_once
    sources = {pending.name: pending for pollable in pollables if (pending := pollable.pending) is not None}
    for source in sources.values():
        await source.begin(state)
    instants = [pollable.ready_at for pollable in pollables if pollable.pending is None]
    names: list[Plain] = [p.ready_at if (pending := p.pending) is None else pending.name for p in pollables]

    async def wait() -> Plain:
        if not at_once:
            await _wait(state, min(instants, default=None), list(sources.values()))
        return list(_ready(state, pollables, instants))

    await _gate(state, instants, sources=bool(sources), at_once=bool(at_once))
    found = await state.recorder.record_async("poll.poll", tuple(names), wait)
    assert isinstance(found, list)
    indices = [index for index in found if isinstance(index, int)]
    for index in indices:
        # Looked at anew each time: the same one may have been named twice.
        pending = pollables[index].pending
        if pending is not None:
            await pending.observe(state)
        else:
            _passed(state, pollables[index].ready_at)
    return indices


async def _gate(state: WasiState, instants: list[int], *, sources: bool, at_once: bool) -> None:
    """A long sleep is a gate. What else is waited for sees to its own."""
    if sources or at_once or state.gate is None or state.recorder.replaying:
        return
    if min(instants) - _now(state) > LONG_NS:
        await state.gate()


async def _wait(state: WasiState, first: int | None, sources: list[Awaited]) -> None:
    """Until the instant `first`, or until one of the sources is ready."""
    delay = None if first is None else (first - _now(state)) / 1_000_000_000
    if any(source.ready() for source in sources) or (delay is not None and delay <= 0):
        return
    if not sources:
        if first is not None and state.leave is not None and first - _now(state) > LEAVES_NS:
            await state.leave(first)
        await asyncio.sleep(delay or 0)
        return
    waits = [asyncio.ensure_future(source.wait()) for source in sources]
    try:
        await asyncio.wait(waits, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


def _ready(state: WasiState, pollables: Sequence[Pollable], instants: list[int]) -> list[int]:
    first = min(instants, default=0)
    sources = [pending for pollable in pollables if (pending := pollable.pending) is not None]
    arrived = any(source.ready() for source in sources)
    # Timers may fire a moment early; but where something else has ended the wait, only the clock says.
    now = _now(state) if arrived else max(_now(state), first)
    return [
        index
        for index, pollable in enumerate(pollables)
        if (pollable.ready_at <= now if (pending := pollable.pending) is None else pending.ready())
    ]


def _passed(state: WasiState, instant: int) -> None:
    """The guest is told that it has come. A timer may have fired a moment early: its clock says so, too."""
    state.latest_ns = max(state.latest_ns, instant)


def _now(state: WasiState) -> int:
    return max(state.wall_ns(), state.latest_ns)
