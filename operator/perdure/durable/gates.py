"""The gates of one instance: where what an invocation did so far becomes durable before the guest goes on.

On replay nothing is sent. The journal of an unfinished invocation ends at a gate; the guest that reaches it again goes
on past it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from perdure.component.traps import HostTrap
from perdure.durable.effects import Bounded, Outcome
from perdure.durable.journal import Gate
from perdure.durable.overlay import Overlay
from perdure.durable.recorder import JournalRecorder
from perdure.durable.settings import CommitMode
from perdure.durable.writer import InstanceWriter, Running

BUFFER = 256 << 10
"""Bytes that an invocation may have buffered when it writes more: beyond, a gate comes first."""


class Gates:
    """`running`: the invocation under way. Outside one nothing becomes durable. `measure`: microseconds that the guest
    ran since the last gate."""

    def __init__(self, mode: CommitMode, recorder: JournalRecorder, overlay: Overlay, writer: InstanceWriter) -> None:
        self._mode = mode
        self._recorder = recorder
        self._overlay = overlay
        self._writer = writer
        self.running: Running | None = None
        self.measure: Callable[[], int] = lambda: 0

    def before_write(
        self, size: int, write: Callable[[], Awaitable[None] | None], *, crowded: bool = False
    ) -> Awaitable[None] | None:
        """Carry out `write` of that many bytes, behind a gate where the buffer is full, or where it would be more than
        its provider applies together (`crowded`)."""
        held = self._overlay.size
        full = crowded or (held and held + size > BUFFER)
        if full and self.running is not None and not self._recorder.replaying:
            return self._then(write)
        return write()

    def after_write(self) -> Awaitable[None] | None:
        """A write was buffered."""
        if self._mode is CommitMode.EFFECT and self.running is not None and not self._recorder.replaying:
            return self.passed()
        return None

    async def after_read(self) -> None:
        """Something was read and recorded."""
        if self._recorder.full and self.running is not None:
            await self.passed()

    async def passed(self) -> None:
        """Make everything so far durable. Raises what `InstanceWriter.part` raises."""
        if not self._recorder.replaying and not self._recorder.caught_up():
            await self._part(None, None)

    async def before_wait(self) -> None:
        """The guest will wait long. Outside an invocation (while it starts) there is nothing to keep."""
        if self.running is not None:
            await self.passed()

    async def before_rendezvous(self) -> None:
        """The guest will wait for what another does, which may wait for what this one wrote."""
        if self.running is not None and not self._overlay.empty:
            await self.passed()

    async def atomic(self, effect: Bounded, gate: Gate, *, crowded: bool = False) -> Outcome:
        """Carry out an atomic effect, with everything before it, or behind a gate of its own (`crowded`). Never on
        replay: its outcome is an event."""
        if crowded:
            await self.passed()
        outcome = await self._part(effect, gate)
        assert outcome is not None
        return outcome

    async def _then(self, write: Callable[[], Awaitable[None] | None]) -> None:
        await self.passed()
        following = write()
        if following is not None:
            await following

    async def _part(self, effect: Bounded | None, gate: Gate | None) -> Outcome | None:
        running = self.running
        if running is None:
            raise HostTrap("an atomic operation outside an invocation")
        effects = self._overlay.effects()
        if effect is not None and gate is not None:
            effects.setdefault(gate.provider, []).append(effect)
        running.guest_us = self.measure()
        outcome = await self._writer.part(running, self._recorder.take(), effects, gate)
        self._overlay.clear()
        return outcome
