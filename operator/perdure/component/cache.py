"""Compiled code on disk, and what was found out about it, by a key and the engine's configuration.

Files are written whole and renamed, so a reader never sees half of one. The directory is bounded in bytes, whatever
configurations and versions have left there: the files used longest ago go first. It must belong to this user alone:
compiled code is trusted when it is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

import wasmtime

_SUFFIX = ".cwasm"
_COMPLETE, _NOTE, _NEW = ".complete", ".note", ".new-"
_ABANDONED = 3600.0
"""Seconds after which a file that is still being written is what a process left that was killed."""


class CompiledCache:
    """`directory` None: nothing is kept. `problem`: why nothing is although it should be."""

    def __init__(self, directory: Path | None, limit: int, configuration: str) -> None:
        self._limit = limit
        self._directory = None if directory is None else directory / configuration
        self.problem: str | None = None
        if self._directory is not None:
            try:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                self.problem = f"compiled code is not kept: {self._directory} cannot be made ({error.strerror})"
                self._directory = None

    def holds(self, key: str) -> bool:
        """Whether compiled modules were kept, so that what they were made of has been validated. They may be gone."""
        return self._directory is not None and self._marker(key).exists()

    def load(self, engine: wasmtime.Engine, key: str, count: int) -> list[wasmtime.Module] | None:
        """The compiled modules of a component, or None when they are not all there."""
        if self._directory is None:
            return None
        paths = [self._path(key, number) for number in range(count)]
        if not (self.holds(key) and all(path.exists() for path in paths)):
            return None
        try:
            modules = [wasmtime.Module.deserialize_file(engine, str(path)) for path in paths]
        except wasmtime.WasmtimeError:
            return None
        with contextlib.suppress(OSError):
            for path in paths:
                os.utime(path)
        return modules

    def save(self, key: str, modules: list[wasmtime.Module]) -> None:
        """Keep compiled modules. A full or read-only disk only costs the next start its time."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            for number, module in enumerate(modules):
                self._write(self._path(key, number), bytes(module.serialize()))
            self._write(self._marker(key), b"")
            self._trim()

    def note(self, key: str) -> str | None:
        """What `keep_note` kept."""
        if self._directory is None:
            return None
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return self._note(key).read_text("utf-8")
        return None

    def keep_note(self, key: str, text: str) -> None:
        """Keep a line about a component that took long to find out."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError):
            self._write(self._note(key), text.encode())

    def _path(self, key: str, number: int) -> Path:
        assert self._directory is not None
        return self._directory / f"{self._name(key)}-{number}{_SUFFIX}"

    def _marker(self, key: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{self._name(key)}{_COMPLETE}"

    def _note(self, key: str) -> Path:
        assert self._directory is not None
        return self._directory / f"{self._name(key)}{_NOTE}"

    def _name(self, key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def _write(self, path: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_NEW)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _trim(self) -> None:
        """All configurations share the bound: those of other versions are used no more, and go first."""
        assert self._directory is not None
        found: list[tuple[float, int, Path]] = []
        abandoned = time.time() - _ABANDONED
        for path in self._directory.parent.glob("wasmtime-*/*"):
            with contextlib.suppress(OSError):  # another process may have taken it away
                status = path.stat()
                if path.suffix == _SUFFIX:
                    found.append((status.st_mtime, status.st_size, path))
                elif path.name.startswith(_NEW) and status.st_mtime < abandoned:
                    path.unlink()
        total = 0
        for _, size, path in sorted(found, reverse=True):
            total += size
            if total > self._limit:
                name = path.stem.rpartition("-")[0]
                for gone in (path, path.with_name(f"{name}{_COMPLETE}"), path.with_name(f"{name}{_NOTE}")):
                    gone.unlink(missing_ok=True)
