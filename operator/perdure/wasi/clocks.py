"""wasi:clocks and wasi:random. Every value is recorded.

The monotonic clock is the wall clock that never goes back for an instance: its next host, and its replay, continue
where the last one stopped, which no host's own monotonic clock could do.
"""

from __future__ import annotations

from perdure.component.traps import HostTrap
from perdure.wasi.polling import Pollable
from perdure.wasi.state import WasiContext, WasiState

_MAX_RANDOM = 16 << 20
_MASK = (1 << 64) - 1


def monotonic_now(ctx: WasiContext) -> int:
    return read_monotonic(ctx.wasi)


def read_monotonic(state: WasiState) -> int:
    """The recorded time in nanoseconds."""
    now = state.recorder.record("monotonic-clock.now", (), lambda: max(state.wall_ns(), state.latest_ns))
    assert isinstance(now, int)
    state.latest_ns = now
    return now


def monotonic_resolution(ctx: WasiContext) -> int:
    return 1


def subscribe_instant(ctx: WasiContext, when: int) -> Pollable:
    return Pollable(when)


def subscribe_duration(ctx: WasiContext, duration: int) -> Pollable:
    # To wait for ever is to wait for the last instant that there is.
    return Pollable(min(read_monotonic(ctx.wasi) + duration, _MASK))


def wall_now(ctx: WasiContext) -> dict[str, object]:
    now = ctx.wasi.recorder.record("wall-clock.now", (), ctx.wasi.wall_ns)
    assert isinstance(now, int)
    return {"seconds": now // 1_000_000_000, "nanoseconds": now % 1_000_000_000}


def wall_resolution(ctx: WasiContext) -> dict[str, object]:
    return {"seconds": 0, "nanoseconds": 1}


def random_bytes(ctx: WasiContext, length: int) -> bytes:
    if length > _MAX_RANDOM:
        raise HostTrap(f"the guest asked for {length:,} random bytes at once; {_MAX_RANDOM:,} are allowed")
    data = ctx.wasi.recorder.record("random.get-random-bytes", (length,), lambda: ctx.wasi.entropy(length))
    assert isinstance(data, bytes)
    return data


def random_u64(ctx: WasiContext) -> int:
    return int.from_bytes(random_bytes(ctx, 8), "little") & _MASK


def insecure_seed(ctx: WasiContext) -> tuple[int, int]:
    return random_u64(ctx), random_u64(ctx)
