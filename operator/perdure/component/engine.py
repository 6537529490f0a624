"""wasmtime's engine as Perdure needs it: deterministic, interruptible, bounded.

NaNs are canonical, threads and relaxed SIMD are off, so that replay is exact. Epochs advance while guests run, and
a guest yields to the event loop at each. One engine belongs to one thread (its event loop's), and
instances belong to their engine.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import wasmtime

from perdure.component import capi

RUNNING, RAN, PARKED, TICKS, TURN = range(5)
"""Of `Engine.activity`: guests that run within each other now; whether any ran since the last tick; whether the ticker
rests; ticks so far; that of the event loop's last turn."""


def allow_compact_imports(settings: wasmtime.Config) -> None:
    """Take core modules' imports in groups (proposal "Compact Import Section"), which wasmtime has switched off: they
    are another way to write the same."""
    capi.compact_imports(capi.address(settings.ptr()), True)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`epoch_tick`: seconds a guest may run before it yields. `max_wasm_stack`: bytes. `memory_reservation`: bytes
    of address space for each memory, which is also the most it can grow to. `cache_dir`: compiled code is kept
    there, bounded by `cache_bytes`."""

    epoch_tick: float = 0.005
    max_wasm_stack: int = 512 * 1024
    memory_reservation: int = 4 << 30
    cache_dir: Path | None = None
    cache_bytes: int = 1 << 30

    def fingerprint(self) -> str:
        """What compiled code depends on."""
        return f"wasmtime-{version('wasmtime')}-stack{self.max_wasm_stack}-reserve{self.memory_reservation}"


class Engine:
    """Compiles modules and keeps the epoch going while something runs. A context manager."""

    def __init__(self, config: EngineConfig | None = None) -> None:
        self.config = config or EngineConfig()
        self.wasmtime = wasmtime.Engine(self._settings())
        self.activity = (ctypes.c_int64 * 5)()
        self.activity_address = ctypes.addressof(self.activity)
        self._closed = False
        self._wake = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="wasm-epoch", daemon=True)
        self._ticker.start()

    def _settings(self) -> wasmtime.Config:
        settings = wasmtime.Config()
        allow_compact_imports(settings)
        settings.cranelift_nan_canonicalization = True
        settings.wasm_threads = False
        settings.wasm_relaxed_simd = False
        settings.epoch_interruption = True
        settings.memory_may_move = False
        settings.memory_reservation = self.config.memory_reservation
        settings.max_wasm_stack = self.config.max_wasm_stack
        return settings

    def wake(self) -> None:
        """A guest is about to run while the ticker rests (`activity` has PARKED): the epoch must advance. Raises
        `RuntimeError` where it never will again."""
        if self._closed:
            raise RuntimeError("the engine is closed: no guest of it can run")
        self._wake.set()

    def turned(self) -> None:
        """The event loop has just had its turn."""
        self.activity[TURN] = self.activity[TICKS]

    @property
    def slices(self) -> int:
        """How many slices of time have passed since then, as far as guests ran meanwhile."""
        return self.activity[TICKS] - self.activity[TURN]

    def _tick(self) -> None:
        # It rests only after a tick without a guest: to wake it costs a guest's entry more than the entry itself.
        stop, activity = threading.Event(), self.activity
        while not self._closed:
            activity[PARKED] = 1
            if not activity[RUNNING] and not activity[RAN]:
                self._wake.wait()
            activity[PARKED] = 0
            self._wake.clear()
            activity[RAN] = 0
            stop.wait(self.config.epoch_tick)
            activity[TICKS] += 1
            self.wasmtime.increment_epoch()

    def close(self) -> None:
        """Stop the ticker; idempotent. What runs a guest after that raises `RuntimeError`."""
        self._closed = True
        self._wake.set()
        self._ticker.join()
        self.activity[PARKED] = 1

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
