"""Recording and replaying host calls: the one door between a guest and everything that is not deterministic."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

from perdure.component.traps import HostTrap
from perdure.durable.journal import Event, fingerprint_of
from perdure.durable.observer import Hooks
from perdure.errors import ReplayDiverged
from perdure.wasi.recorder import Plain

MAX_EVENTS = 1_000_000
MAX_RECORDED = 256 << 20
"""Bytes that the calls of one invocation may have given: each replay holds them all."""
UNSAVED = 8 << 20
"""Bytes that it may hold which are in no commit yet: beyond, reading is a gate."""


def _nothing() -> None:
    return None


class JournalRecorder:
    """Live: calls run and become `events`. After `replay(events)`: results come from there, in order, until
    `finish_replay`. Implements `perdure.wasi.recorder.Recorder`.

    `waited`: seconds that live calls took, so that a guest's own time can be told from the clock's.
    """

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._recorded: Sequence[Event] | None = None
        self._position = 0
        self._what = ""
        self._gates: frozenset[int] = frozenset()
        self._passed: Callable[[], None] = _nothing
        self._goes_on = False
        self._carried: list[Event] = []
        self.events: list[Event] = []
        self.waited = 0.0
        self._unsaved = 0
        self._given = 0

    @property
    def full(self) -> bool:
        """So much was recorded since the last gate that another one is due."""
        return self._unsaved > UNSAVED

    @property
    def replaying(self) -> bool:
        if self._recorded is None:
            return False
        return not (self._goes_on and self._position == len(self._recorded))

    def live(self) -> None:
        """Begin a new recording."""
        self._recorded = None
        self.events = []
        self.waited = 0.0
        self._unsaved = self._given = 0

    def take(self) -> list[Event]:
        """What was recorded since the last gate; the next recording begins."""
        taken, self.events = self.events, []
        self._unsaved = 0
        return taken

    def replay(
        self,
        recorded: Sequence[Event],
        what: str,
        *,
        gates: frozenset[int] = frozenset(),
        passed: Callable[[], None] = _nothing,
        goes_on: bool = False,
        carried: int = 0,
    ) -> None:
        """Serve `recorded` from now on; `what` names the journal entry in errors.

        `gates`: before the events at these positions a gate was passed, and `passed` is called there again.
        `goes_on`: the invocation did not end in the journal; after its last event it is live, past a gate. The last
        `carried` events are in no entry yet, and begin the next one.
        """
        self._recorded = recorded
        self._position = 0
        self._what = what
        self._gates = gates
        self._passed = passed
        self._goes_on = goes_on
        self._carried = list(recorded[len(recorded) - carried :])

    def caught_up(self) -> bool:
        """At a gate: whether the journal of an unfinished invocation ends at this very one. If so, it is live now."""
        if self._recorded is None or not self._goes_on or self._position != len(self._recorded):
            return False
        self._go_on()
        return True

    def finish_replay(self) -> None:
        """The replayed call has ended: raise `ReplayDiverged` unless it consumed every event."""
        recorded = self._recorded
        if recorded is None:
            # It went on, and is past the journal.
            return
        if self._position != len(recorded):
            left = recorded[self._position].call
            raise ReplayDiverged(
                f"{self._what}: the journal continues with {left} (call {self._position + 1} of {len(recorded)}), "
                "but the guest made no further call"
            )
        if self._goes_on:
            self._go_on()
        else:
            self.live()

    def expects(self, call: str) -> bool:
        """See `Recorder.expects`."""
        recorded = self._recorded
        return recorded is not None and self._position < len(recorded) and recorded[self._position].call == call

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        """See `Recorder.record`."""
        fingerprint = fingerprint_of(call, args)
        if self._serves():
            return self._next(call, fingerprint)
        self._hooks.host_call(call)
        return self._keep(call, fingerprint, produce())

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        """The same for a call that waits."""
        fingerprint = fingerprint_of(call, args)
        if self._serves():
            return self._next(call, fingerprint)
        self._hooks.host_call(call)
        begun = time.perf_counter()
        try:
            return self._keep(call, fingerprint, await produce())
        finally:
            self.waited += time.perf_counter() - begun

    def _serves(self) -> bool:
        if self._recorded is None:
            return False
        if self._goes_on and self._position == len(self._recorded):
            self._go_on()
            return False
        return True

    def _go_on(self) -> None:
        """The journal's part of an unfinished invocation is over."""
        self._goes_on = False
        self._passed()
        self.live()
        self.events = self._carried

    def _keep(self, call: str, fingerprint: bytes, result: Plain) -> Plain:
        if len(self.events) >= MAX_EVENTS:
            raise HostTrap(f"one invocation made more than {MAX_EVENTS:,} recorded calls")
        size = _size(result)
        self._unsaved += size
        self._given += size
        if self._given > MAX_RECORDED:
            raise HostTrap(f"one invocation was given more than {MAX_RECORDED:,} bytes by its host")
        self.events.append(Event(call, fingerprint, result))
        return result

    def _next(self, call: str, fingerprint: bytes) -> Plain:
        assert self._recorded is not None
        position = self._position
        if position in self._gates:
            self._passed()
        if position >= len(self._recorded):
            raise ReplayDiverged(f"{self._what}: the guest calls {call}, but the journal has no further call")
        event = self._recorded[position]
        if event.fingerprint != fingerprint:
            other = "with other arguments" if event.call == call else f"where the journal has {event.call}"
            raise ReplayDiverged(f"{self._what}, call {position + 1}: the guest calls {call} {other}")
        self._position += 1
        result: Plain = event.result
        return result


def _size(result: Plain) -> int:
    """About what it takes."""
    if isinstance(result, (bytes, str)):
        return len(result)
    if isinstance(result, list):
        return sum(map(_size, result))
    return sum(map(_size, result.values())) if isinstance(result, dict) else 8
