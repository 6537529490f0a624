"""Directories of the host that a guest may read, without a way out of them.

A path is walked from its root name by name over directory handles, links included: none is followed out of the root,
and exchanging one during the walk leads nowhere else. Devices, pipes and sockets are not opened. All calls block.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

MAX_FILE = 16 << 20
"""Bytes of a file that can be read."""
MAX_ENTRIES = 10_000
MAX_PATH = 4096
_MAX_LINKS = 40
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_CODES = {
    errno.EACCES: "access",
    errno.EPERM: "not-permitted",
    errno.ENOENT: "no-entry",
    errno.ENOTDIR: "not-directory",
    errno.EISDIR: "is-directory",
    errno.ELOOP: "loop",
    errno.ENAMETOOLONG: "name-too-long",
    errno.EINVAL: "invalid",
}


class FileError(Exception):
    """`code`: a case of wasi:filesystem's error-code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Entry:
    """`kind`: a `descriptor-type` of the interface. Times in nanoseconds since 1970."""

    kind: str
    size: int
    links: int
    modified_ns: int
    identity: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mount:
    """`path`: where the guest sees it. `directory`: where it is."""

    path: str
    directory: Path


class Tree:
    """One mount. `path`: relative to it, as the guest gives it."""

    def __init__(self, mount: Mount) -> None:
        self.mount = mount

    def entry(self, path: str, *, follow: bool) -> Entry:
        """What is there. Raises `FileError`, as all of these do."""
        with ExitStack() as opened:
            found = self._walk(opened, path, follow=follow)
            return _entry(os.fstat(found) if isinstance(found, int) else found)

    def content(self, path: str) -> bytes:
        """A file's bytes."""
        with ExitStack() as opened:
            found = self._walk(opened, path, follow=True)
            if not isinstance(found, int):
                raise FileError("unsupported")
            about = os.fstat(found)
            if stat.S_ISDIR(about.st_mode):
                raise FileError("is-directory")
            if about.st_size > MAX_FILE:
                raise FileError("file-too-large")
            with os.fdopen(os.dup(found), "rb") as file:
                data = file.read(MAX_FILE + 1)
            if len(data) > MAX_FILE:
                raise FileError("file-too-large")
            return data

    def names(self, path: str) -> list[tuple[str, str]]:
        """(kind, name) of a directory's entries, in the order of names; those that are not text are left out."""
        with ExitStack() as opened:
            found = self._walk(opened, path, follow=True)
            if not isinstance(found, int) or not stat.S_ISDIR(os.fstat(found).st_mode):
                raise FileError("not-directory")
            with _translated(), os.scandir(found) as listed:
                entries = [(_kind(entry.stat(follow_symlinks=False).st_mode), entry.name) for entry in listed]
        if len(entries) > MAX_ENTRIES:
            raise FileError("overflow")
        return sorted((entry for entry in entries if _is_text(entry[1])), key=lambda entry: entry[1])

    def link(self, path: str) -> str:
        """Where a link leads."""
        with ExitStack() as opened:
            parent, name = self._parent(opened, path)
            with _translated():
                return os.readlink(name, dir_fd=parent)

    def _parent(self, opened: ExitStack, path: str) -> tuple[int, str]:
        head, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise FileError("invalid")
        parent = self._walk(opened, head or ".", follow=True)
        if not isinstance(parent, int):
            raise FileError("not-directory")
        return parent, name

    def _walk(self, opened: ExitStack, path: str, *, follow: bool) -> int | os.stat_result:
        """A handle of what is there. What is known of it where it is a link that is not to be followed, or neither file
        nor directory, which is never opened."""
        _check(path)
        with _translated():
            root = os.open(self.mount.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, root)
            above: list[int] = [root]
            parts = deque(part for part in path.split("/") if part not in ("", "."))
            links = 0
            while parts:
                part = parts.popleft()
                if part in ("", "."):
                    continue
                if part == "..":
                    if len(above) == 1:
                        raise FileError("not-permitted")
                    above.pop()
                    continue
                about = os.stat(part, dir_fd=above[-1], follow_symlinks=False)
                if stat.S_ISLNK(about.st_mode):
                    if not parts and not follow:
                        return about
                    links += 1
                    target = os.readlink(part, dir_fd=above[-1])
                    if links > _MAX_LINKS:
                        raise FileError("loop")
                    if target.startswith("/"):
                        raise FileError("not-permitted")
                    parts.extendleft(reversed(target.split("/")))
                    continue
                if not stat.S_ISDIR(about.st_mode) and not stat.S_ISREG(about.st_mode):
                    if parts:
                        raise FileError("not-directory")
                    return about
                handle = os.open(part, _FLAGS, dir_fd=above[-1])
                opened.callback(os.close, handle)
                if not stat.S_ISDIR(os.fstat(handle).st_mode):
                    if not stat.S_ISREG(os.fstat(handle).st_mode):
                        raise FileError("unsupported")
                    if parts:
                        raise FileError("not-directory")
                    return handle
                above.append(handle)
            return above[-1]


def _check(path: str) -> None:
    if path.startswith("/"):
        raise FileError("not-permitted")
    if "\0" in path or len(path) > MAX_PATH:
        raise FileError("invalid" if "\0" in path else "name-too-long")


class _translated:
    """Errors of the operating system as those of the interface."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise FileError(_CODES.get(error.errno or 0, "io")) from error
        if isinstance(error, UnicodeError):
            raise FileError("illegal-byte-sequence") from error


def _entry(about: os.stat_result) -> Entry:
    kind = _kind(about.st_mode)
    size = about.st_size if kind == "regular-file" else 0
    return Entry(kind, size, about.st_nlink, about.st_mtime_ns, (about.st_dev, about.st_ino))


_KINDS = {
    stat.S_IFDIR: "directory",
    stat.S_IFREG: "regular-file",
    stat.S_IFLNK: "symbolic-link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block-device",
    stat.S_IFCHR: "character-device",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "unknown")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
