"""The Recorder protocol: how a host call's nondeterministic result is kept for replay.

The durability engine implements it over the journal. Live, `produce` runs and its result is recorded; on replay
the recorded result is returned and `produce` is not called. A result is a plain value that MessagePack holds
(None, bool, int, float, str, bytes, list, dict with str keys).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

Plain: TypeAlias = "None | bool | int | float | str | bytes | list[Plain] | dict[str, Plain]"


class Recorder(Protocol):
    """Records and replays; raises ReplayDiverged when replay meets another call than the journal holds."""

    @property
    def replaying(self) -> bool:
        """True while results come from the journal: outside effects such as log lines are then left out."""

    def expects(self, call: str) -> bool:
        """On replay: whether the journal goes on with this call."""

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        """`call` names the interface function without its version; it and `args` make the fingerprint."""

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        """The same for a call that waits."""
