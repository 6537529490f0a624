"""Directories that guests may read: everything within, nothing without."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from perdure.wasi.files import tree as module
from perdure.wasi.files.tree import FileError, Mount, Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """`top` with some files, beside something secret."""
    top = tmp_path / "top"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "a.txt").write_bytes(b"a")
    (top / "sub" / "b.txt").write_bytes(b"bb")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "c.txt").write_bytes(b"secret")
    return top


@pytest.fixture
def tree(root: Path) -> Tree:
    return Tree(Mount("/data", root))


def code(look: object, *args: object, **named: object) -> str:
    assert callable(look)
    with pytest.raises(FileError) as raised:
        look(*args, **named)
    return raised.value.code


@pytest.mark.parametrize(
    "path", ["a.txt", "./a.txt", "sub/../a.txt", "sub//deep/../../a.txt", "link", "sub/up", "chain"]
)
def test_within(root: Path, tree: Tree, path: str) -> None:
    (root / "link").symlink_to("a.txt")
    (root / "sub" / "up").symlink_to("../a.txt")
    (root / "chain").symlink_to("sub/up")
    assert tree.content(path) == b"a"
    assert tree.entry(path, follow=True).size == 1


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../secret",
        "sub/../../secret",
        "out",
        "far",
        "dir/c.txt",
        "sub/out2",
        "/etc/passwd",
        "sub/../../top/a.txt",
    ],
)
def test_without(root: Path, tree: Tree, path: str) -> None:
    (root / "out").symlink_to("../secret")
    (root / "far").symlink_to(root.parent / "secret")
    (root / "dir").symlink_to("../outside")
    (root / "sub" / "out2").symlink_to("../../secret")
    for look in (tree.content, tree.names, lambda found: tree.entry(found, follow=True)):
        assert code(look, path) == "not-permitted"


def test_what_is_wrong(root: Path, tree: Tree) -> None:
    (root / "round").symlink_to("round")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))
        assert code(tree.content, "socket") == "unsupported"
    assert code(tree.content, "pipe") == "unsupported"
    # Looked at it may be: libraries do so with each entry of a directory, and would fail at all of it.
    assert tree.entry("pipe", follow=True).kind == tree.entry("pipe", follow=False).kind == "fifo"
    assert code(tree.names, "pipe") == code(tree.content, "pipe/x") == code(tree.link, "pipe/x") == "not-directory"
    assert code(tree.content, "none") == "no-entry"
    assert code(tree.content, "sub") == "is-directory"
    assert code(tree.content, "a.txt/x") == "not-directory"
    assert code(tree.names, "a.txt") == "not-directory"
    assert code(tree.content, "round") == "loop"
    assert code(tree.content, "a\0b") == "invalid"
    assert code(tree.content, "x" * 300) == "name-too-long"
    assert code(tree.content, "\ud800") == "illegal-byte-sequence"
    assert code(tree.link, "..") == "invalid"
    assert tree.link("round") == "round"
    assert tree.entry("round", follow=False).kind == "symbolic-link"


def test_names_in_order(root: Path, tree: Tree) -> None:
    (root / "link").symlink_to("a.txt")
    os.mkfifo(root / "pipe")
    os.mknod(root / "socket", stat.S_IFSOCK | 0o600)
    assert tree.names(".") == [
        ("regular-file", "a.txt"), ("symbolic-link", "link"), ("fifo", "pipe"), ("socket", "socket"), ("directory", "sub")
    ]  # fmt: skip
    assert tree.names("sub") == [("regular-file", "b.txt"), ("directory", "deep")]


def test_large_files_and_directories(root: Path, tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE", 10)
    monkeypatch.setattr(module, "MAX_ENTRIES", 2)
    (root / "large").write_bytes(bytes(11))
    assert code(tree.content, "large") == "file-too-large"
    (root / "large").write_bytes(bytes(10))
    assert tree.content("large") == bytes(10)
    assert code(tree.names, ".") == "overflow"
    assert len(tree.names("sub")) == 2


def test_a_configmap_as_the_kubelet_mounts_it(tmp_path: Path) -> None:
    version = tmp_path / "..2026_01"
    version.mkdir()
    (version / "app.conf").write_bytes(b"one")
    (tmp_path / "..data").symlink_to("..2026_01")
    (tmp_path / "app.conf").symlink_to("..data/app.conf")
    assert Tree(Mount("/etc/app", tmp_path)).content("app.conf") == b"one"


def test_a_directory_that_is_exchanged_for_a_link(root: Path, tree: Tree) -> None:
    """However often it changes while paths are walked, nothing of outside is read."""
    ended = threading.Event()

    def exchange() -> None:
        place, aside = root / "sub", root / "aside"
        while not ended.is_set():
            place.rename(aside)
            place.symlink_to("../outside")
            place.unlink()
            aside.rename(place)
            time.sleep(0.0002)

    (root / "sub" / "c.txt").write_bytes(b"inside")
    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        found, looks, limit = set(), 0, time.monotonic() + 30
        while (looks < 1000 or b"inside" not in found) and time.monotonic() < limit:
            looks += 1
            try:
                found.add(tree.content("sub/c.txt"))
            except FileError as error:
                found.add(error.code.encode())
    finally:
        ended.set()
        thread.join()
    assert b"inside" in found and b"secret" not in found
