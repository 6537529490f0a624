"""One instance's WASI state: what its interfaces need of the world, injected."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from perdure.wasi.files.tree import Mount
from perdure.wasi.recorder import Recorder

_TAIL_BYTES = 4096


class WasiContext(Protocol):
    """What host functions of this package get as their first argument."""

    @property
    def wasi(self) -> WasiState:
        """The calling instance's state."""


@dataclass(slots=True)
class WasiState:
    """`wall_ns` and `monotonic_ns`: nanoseconds. `sink(stream, data)`: what the guest prints, not on replay. `gate`:
    awaited before a long wait, so that what came before it is durable meanwhile. `leave`: awaited with the instant
    (nanoseconds) of a wait that is worth giving up memory for; it raises, or the guest stays. `settings`: for
    wasi:config. `log(level, context, message)`: a line of wasi:logging."""

    recorder: Recorder
    wall_ns: Callable[[], int]
    monotonic_ns: Callable[[], int]
    entropy: Callable[[int], bytes]
    environment: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()
    sink: Callable[[str, bytes], None] = lambda stream, data: None
    gate: Callable[[], Awaitable[None]] | None = None
    leave: Callable[[int], Awaitable[None]] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    log: Callable[[str, str, str], None] = lambda level, context, message: None
    mounts: Sequence[Mount] = ()
    latest_ns: int = 0
    files_held: int = 0
    _tail: deque[bytes] = field(default_factory=deque)
    _tail_size: int = 0

    def printed(self, stream: str, data: bytes) -> None:
        """The guest wrote to stdout or stderr."""
        if stream == "stderr":
            self._tail.append(data[-_TAIL_BYTES:])
            self._tail_size += len(self._tail[-1])
            while self._tail_size - len(self._tail[0]) >= _TAIL_BYTES:
                self._tail_size -= len(self._tail.popleft())
        if not self.recorder.replaying:
            self.sink(stream, data)

    def stderr_tail(self) -> str:
        """The last 4 KiB printed to stderr, for the report of a trap."""
        return b"".join(self._tail)[-_TAIL_BYTES:].decode("utf-8", "replace")
