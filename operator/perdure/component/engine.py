"""wasmtime's engine as Perdure needs it: deterministic, interruptible, bounded.

NaNs are canonical, threads and relaxed SIMD are off, so that replay is exact. Epochs advance while guests run, and
a guest yields to the event loop at each. One engine belongs to one thread (its event loop's), and
only one thread of a process may run guests (`fiber.current`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType

import wasmtime

from perdure.component import capi


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
        self.ticks = 0
        self._turn = 0
        self._running = 0
        self._ran = False
        self._parked = False
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

    def enter(self) -> None:
        """A guest is about to run: the epoch must advance."""
        self._running += 1
        self._ran = True
        if self._parked:
            self._wake.set()

    def leave(self) -> None:
        """The guest has returned or waits for the host."""
        self._running -= 1

    def turned(self) -> None:
        """The event loop has just had its turn."""
        self._turn = self.ticks

    @property
    def slices(self) -> int:
        """How many slices of time have passed since then, as far as guests ran meanwhile."""
        return self.ticks - self._turn

    def _tick(self) -> None:
        # It rests only after a tick without a guest: to wake it costs a guest's entry more than the entry itself.
        stop = threading.Event()
        while not self._closed:
            self._parked = True
            if not self._running and not self._ran:
                self._wake.wait()
            self._parked = False
            self._wake.clear()
            self._ran = False
            stop.wait(self.config.epoch_tick)
            self.ticks += 1
            self.wasmtime.increment_epoch()

    def close(self) -> None:
        """Stop the ticker; idempotent. Instances must not run any more."""
        self._closed = True
        self._wake.set()
        self._ticker.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
