"""Recording and replaying host calls: the one door between a guest and everything that is not deterministic."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from perdure.component.traps import HostTrap
from perdure.durable.journal import Event, fingerprint_of
from perdure.durable.observer import Hooks
from perdure.errors import ReplayDiverged
from perdure.wasi.recorder import Plain

MAX_EVENTS = 1_000_000


class JournalRecorder:
    """Live: calls run and become `events`. After `replay(events)`: results come from there, in order, until
    `finish_replay`. Implements `perdure.wasi.recorder.Recorder`."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._recorded: Sequence[Event] | None = None
        self._position = 0
        self._what = ""
        self.events: list[Event] = []

    @property
    def replaying(self) -> bool:
        return self._recorded is not None

    def live(self) -> None:
        """Begin a new recording."""
        self._recorded = None
        self.events = []

    def replay(self, recorded: Sequence[Event], what: str) -> None:
        """Serve `recorded` from now on; `what` names the journal entry in errors."""
        self._recorded = recorded
        self._position = 0
        self._what = what

    def finish_replay(self) -> None:
        """The replayed call has ended: raise `ReplayDiverged` unless it consumed every event."""
        recorded = self._recorded or ()
        if self._position != len(recorded):
            left = recorded[self._position].call
            raise ReplayDiverged(
                f"{self._what}: the journal continues with {left} (call {self._position + 1} of {len(recorded)}), "
                "but the guest made no further call"
            )
        self.live()

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        """See `Recorder.record`."""
        fingerprint = fingerprint_of(call, args)
        if self._recorded is not None:
            return self._next(call, fingerprint)
        self._hooks.host_call(call)
        return self._keep(call, fingerprint, produce())

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        """The same for a call that waits."""
        fingerprint = fingerprint_of(call, args)
        if self._recorded is not None:
            return self._next(call, fingerprint)
        self._hooks.host_call(call)
        return self._keep(call, fingerprint, await produce())

    def _keep(self, call: str, fingerprint: bytes, result: Plain) -> Plain:
        if len(self.events) >= MAX_EVENTS:
            raise HostTrap(f"one invocation made more than {MAX_EVENTS:,} recorded calls")
        self.events.append(Event(call, fingerprint, result))
        return result

    def _next(self, call: str, fingerprint: bytes) -> Plain:
        assert self._recorded is not None
        position = self._position
        if position >= len(self._recorded):
            raise ReplayDiverged(f"{self._what}: the guest calls {call}, but the journal has no further call")
        event = self._recorded[position]
        if event.fingerprint != fingerprint:
            other = "with other arguments" if event.call == call else f"where the journal has {event.call}"
            raise ReplayDiverged(f"{self._what}, call {position + 1}: the guest calls {call} {other}")
        self._position += 1
        result: Plain = event.result
        return result
