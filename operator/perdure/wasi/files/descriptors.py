"""wasi:filesystem/types and preopens: descriptors are paths within a mount, and a file's content once it was read.

What is outside is recorded with each look at it: which mounts there are, what is at a path, a directory's names. Of a
file the whole content is recorded when a descriptor is first read from; reading on is no question of time, and what
replaces the file meanwhile does not mix with it. Whatever would change something is `read-only`.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import cast

from perdure.component.traps import HostTrap
from perdure.component.types import Err, Ok
from perdure.wasi.files.tree import FileError, Tree
from perdure.wasi.recorder import Plain
from perdure.wasi.state import WasiContext, WasiState
from perdure.wasi.streams import InputStream

MAX_HELD = 64 << 20
"""Bytes of files that one instance holds open."""
_READ_ONLY = Err("read-only")


class Descriptor:
    """`mount`: the path the guest knows it by. `path`: within it; "" is the mount itself."""

    def __init__(self, mount: str, path: str, kind: str) -> None:
        self.mount = mount
        self.path = path
        self.kind = kind
        self.content: bytes | None = None

    def below(self, path: str) -> str:
        """As it is walked: the host never takes `..` away itself, for links are in between. Raises `FileError` for a
        path that leads out of this directory."""
        depth = 0
        for part in path.split("/"):
            depth += 0 if part in ("", ".") else -1 if part == ".." else 1
            if depth < 0 or path.startswith("/"):
                raise FileError("not-permitted")
        return f"{self.path}/{path}" if self.path else path


class FileStream(InputStream):
    """What is left of a file, from an offset on. It counts as held until it is dropped."""

    def __init__(self, state: WasiState, content: bytes, offset: int) -> None:
        super().__init__(content, owned=True)
        self._at = min(offset, len(content))
        self._state = state
        _hold(state, len(content))

    def close(self) -> None:
        super().close()
        self._state.files_held -= len(self._data)


class EntryStream:
    """The resource `directory-entry-stream`."""

    def __init__(self, entries: list[tuple[str, str]]) -> None:
        self.entries = entries
        self.at = 0


def get_directories(ctx: WasiContext) -> list[tuple[Descriptor, str]]:
    """Recorded where there are any. An invocation from before there were finds none in its journal, and none here."""
    state = ctx.wasi
    call = "filesystem.preopens"
    there = state.recorder.expects(call) if state.recorder.replaying else bool(state.mounts)
    if not there:
        return []
    found = state.recorder.record(call, (), lambda: [mount.path for mount in state.mounts])
    assert isinstance(found, list)
    return [(Descriptor(str(path), "", "directory"), str(path)) for path in found]


async def _look(
    state: WasiState,
    call: str,
    descriptor: Descriptor,
    path: str,
    args: tuple[Plain, ...],
    look: Callable[[Tree], Plain],
) -> Plain:
    """What `look` gives; `{"error": code}` becomes a `FileError`."""

    async def outside() -> Plain:
        tree = next((Tree(mount) for mount in state.mounts if mount.path == descriptor.mount), None)
        if tree is None:
            return {"error": "no-entry"}
        try:
            return await asyncio.to_thread(look, tree)
        except FileError as error:
            return {"error": error.code}

    found = await state.recorder.record_async(call, (descriptor.mount, path, *args), outside)
    if isinstance(found, dict) and "error" in found:
        raise FileError(str(found["error"]))
    return found


async def _stat(state: WasiState, descriptor: Descriptor, path: str, *, follow: bool) -> dict[str, Plain]:
    def look(tree: Tree) -> Plain:
        entry = tree.entry(path, follow=follow)
        device, number = entry.identity
        identity = hashlib.blake2b(f"{device}/{number}".encode(), digest_size=16).digest()
        return {
            "kind": entry.kind,
            "size": entry.size,
            "links": entry.links,
            "modified": entry.modified_ns,
            "identity": identity,
        }

    found = await _look(state, "filesystem.stat", descriptor, path, (follow,), look)
    assert isinstance(found, dict)
    return found


async def _content(state: WasiState, descriptor: Descriptor) -> bytes:
    if descriptor.content is None:
        if descriptor.kind == "directory":
            raise FileError("is-directory")
        path = descriptor.path
        found = await _look(state, "filesystem.content", descriptor, path, (), lambda tree: tree.content(path))
        assert isinstance(found, bytes)
        _hold(state, len(found))
        descriptor.content = found
    return descriptor.content


def _hold(state: WasiState, size: int) -> None:
    state.files_held += size
    if state.files_held > MAX_HELD:
        raise HostTrap(f"the guest holds more than {MAX_HELD:,} bytes of open files; close what was read")


def drop(ctx: WasiContext, descriptor: Descriptor) -> None:
    ctx.wasi.files_held -= len(descriptor.content or b"")


async def open_at(
    ctx: WasiContext,
    descriptor: Descriptor,
    path_flags: frozenset[str],
    path: str,
    open_flags: frozenset[str],
    flags: frozenset[str],
) -> Ok | Err:
    if open_flags & {"create", "truncate", "exclusive"} or flags & {"write", "mutate-directory"}:
        return _READ_ONLY
    try:
        below = descriptor.below(path)
        found = await _stat(ctx.wasi, descriptor, below, follow="symlink-follow" in path_flags)
    except FileError as error:
        return Err(error.code)
    kind = str(found["kind"])
    if kind == "symbolic-link":
        return Err("loop")
    if "directory" in open_flags and kind != "directory":
        return Err("not-directory")
    if kind not in ("directory", "regular-file"):
        return Err("unsupported")
    return Ok(Descriptor(descriptor.mount, below, kind))


async def read(ctx: WasiContext, descriptor: Descriptor, length: int, offset: int) -> Ok | Err:
    try:
        content = await _content(ctx.wasi, descriptor)
    except FileError as error:
        return Err(error.code)
    data = content[offset : offset + length]
    return Ok((data, offset + len(data) >= len(content)))


async def read_via_stream(ctx: WasiContext, descriptor: Descriptor, offset: int) -> Ok | Err:
    try:
        content = await _content(ctx.wasi, descriptor)
    except FileError as error:
        return Err(error.code)
    return Ok(FileStream(ctx.wasi, content, offset))


async def read_directory(ctx: WasiContext, descriptor: Descriptor) -> Ok | Err:
    path = descriptor.path or "."

    def look(tree: Tree) -> Plain:
        return [[kind, name] for kind, name in tree.names(path)]

    try:
        found = await _look(ctx.wasi, "filesystem.names", descriptor, path, (), look)
    except FileError as error:
        return Err(error.code)
    assert isinstance(found, list)
    return Ok(EntryStream([cast("tuple[str, str]", tuple(pair)) for pair in found if isinstance(pair, list)]))


def read_directory_entry(ctx: WasiContext, stream: EntryStream) -> Ok:
    if stream.at >= len(stream.entries):
        return Ok(None)
    kind, name = stream.entries[stream.at]
    stream.at += 1
    return Ok({"type": kind, "name": name})


async def stat(ctx: WasiContext, descriptor: Descriptor) -> Ok | Err:
    return await _stat_of(ctx, descriptor, ".", follow=True)


async def stat_at(ctx: WasiContext, descriptor: Descriptor, flags: frozenset[str], path: str) -> Ok | Err:
    return await _stat_of(ctx, descriptor, path, follow="symlink-follow" in flags)


def _place(descriptor: Descriptor, path: str) -> str:
    """`.` is the descriptor itself, which may be a file."""
    return (descriptor.path or ".") if path == "." else descriptor.below(path)


async def _stat_of(ctx: WasiContext, descriptor: Descriptor, path: str, *, follow: bool) -> Ok | Err:
    try:
        found = await _stat(ctx.wasi, descriptor, _place(descriptor, path), follow=follow)
    except FileError as error:
        return Err(error.code)
    modified = found["modified"]
    assert isinstance(modified, int)
    time = {"seconds": max(modified, 0) // 1_000_000_000, "nanoseconds": max(modified, 0) % 1_000_000_000}
    return Ok(
        {
            "type": found["kind"],
            "link-count": found["links"],
            "size": found["size"],
            "data-access-timestamp": None,
            "data-modification-timestamp": time,
            "status-change-timestamp": None,
        }
    )


async def metadata_hash(ctx: WasiContext, descriptor: Descriptor) -> Ok | Err:
    return await _hash_of(ctx, descriptor, ".", follow=True)


async def metadata_hash_at(ctx: WasiContext, descriptor: Descriptor, flags: frozenset[str], path: str) -> Ok | Err:
    return await _hash_of(ctx, descriptor, path, follow="symlink-follow" in flags)


async def _hash_of(ctx: WasiContext, descriptor: Descriptor, path: str, *, follow: bool) -> Ok | Err:
    try:
        found = await _stat(ctx.wasi, descriptor, _place(descriptor, path), follow=follow)
    except FileError as error:
        return Err(error.code)
    identity = found["identity"]
    assert isinstance(identity, bytes)
    return Ok({"lower": int.from_bytes(identity[:8], "little"), "upper": int.from_bytes(identity[8:], "little")})


async def readlink_at(ctx: WasiContext, descriptor: Descriptor, path: str) -> Ok | Err:
    try:
        below = descriptor.below(path)
        return Ok(await _look(ctx.wasi, "filesystem.link", descriptor, below, (), lambda tree: tree.link(below)))
    except FileError as error:
        return Err(error.code)


def is_same_object(ctx: WasiContext, descriptor: Descriptor, other: Descriptor) -> bool:
    return (descriptor.mount, descriptor.path) == (other.mount, other.path)


def get_flags(ctx: WasiContext, descriptor: Descriptor) -> Ok:
    return Ok(frozenset({"read"}))


def get_type(ctx: WasiContext, descriptor: Descriptor) -> Ok:
    return Ok(descriptor.kind)


def accepted(ctx: WasiContext, *arguments: object) -> Ok:
    """Advice, and flushing what was never written."""
    return Ok()


def refused(ctx: WasiContext, *arguments: object) -> Err:
    return _READ_ONLY


def error_code(ctx: WasiContext, error: object) -> None:
    """Streams over files are streams over bytes: their errors have no code."""
    return
