"""Compiled code on disk: whatever is found there, or cannot be written there, a component loads and runs."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.scan import Hazards
from support.components import Host


def component(number: int) -> bytes:
    text = f"""(component
      (core module $M (memory 1) (func (export "f") (result i32) (i32.const {number})))
      (core module $N (memory 1))
      (core instance $m (instantiate $M)) (core instance (instantiate $N))
      (func (export "f") (result u32) (canon lift (core func $m "f"))))"""
    return bytes(wat2wasm(text))


async def loaded(directory: Path, number: int = 7, *, limit: int = 1 << 30) -> list[str]:
    """What is said meanwhile."""
    said: list[str] = []
    with Engine(EngineConfig(cache_dir=directory, cache_bytes=limit)) as engine:
        made = await Component.load(engine, component(number), progress=said.append)
        instance = await made.bind(Host({}, {})).instantiate(None)
        assert await instance.call(made.exports[0], []) == number
        instance.close()
    return said


def kept(directory: Path, pattern: str = "*.cwasm") -> list[Path]:
    return sorted(directory.rglob(pattern))


@pytest.mark.parametrize(
    "harm",
    [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:-1], lambda data: b"x" + data[1:]],
    ids=["empty", "half", "all but a byte", "another kind"],
)
async def test_damaged_code_is_made_anew(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    await loaded(tmp_path)
    was = {path: path.read_bytes() for path in kept(tmp_path)}
    for path, data in was.items():
        path.unlink()  # what is mapped stays as it is
        path.write_bytes(harm(data))
    await loaded(tmp_path)
    assert {path: path.read_bytes() for path in kept(tmp_path)} == was


@pytest.mark.parametrize(
    "note", ["", "null", "[]", "[1, 5, 6]", "[1, null, [5]]", '[1, ["a"], []]', "[" * 100_000, "\0"]
)
async def test_a_damaged_note_is_made_anew(tmp_path: Path, note: str) -> None:
    await loaded(tmp_path)
    (path,) = kept(tmp_path, "*.note")
    was = path.read_text("utf-8")
    path.write_text(note, "utf-8")
    await loaded(tmp_path)
    assert path.read_text("utf-8") == was


def test_a_note_is_read_as_it_was_written() -> None:
    for found in (Hazards(), Hazards(("gc-objects", "words")), Hazards(None, ("table.fill", "table.set"))):
        assert Hazards.from_text(found.to_text()) == found


@pytest.mark.parametrize("place", ["file", "file/within", "/proc/nothing"])
async def test_a_directory_that_cannot_be_costs_time_only(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (said,) = await loaded(tmp_path / place)
    assert said.startswith("compiled code is not kept: ") and place in said


async def test_all_that_versions_and_killed_processes_left_counts(tmp_path: Path) -> None:
    for number in range(3):
        await loaded(tmp_path, number)
    (mine,) = tmp_path.iterdir()
    other = tmp_path / "wasmtime-1.0-other"
    other.mkdir()
    (other / "a-0.cwasm").write_bytes(bytes(100))
    for name in (".new-left", ".new-fresh"):
        (mine / name).write_bytes(bytes(100))
    for path in (other / "a-0.cwasm", mine / ".new-left", *kept(mine)):
        os.utime(path, (1e9, 1e9))
    size = sum(path.stat().st_size for path in kept(mine)) // 3
    await loaded(tmp_path, 3, limit=size)
    assert not kept(other) and not (mine / ".new-left").exists() and (mine / ".new-fresh").exists()
    assert len(kept(mine)) == 2 and len(kept(mine, "*.complete")) == 1 and len(kept(mine, "*.note")) == 1
    await loaded(tmp_path, 0, limit=size)
    await loaded(tmp_path, 0, limit=0)
    assert len(kept(mine)) == 2  # nothing is written, and so nothing is taken away, where all is there


def test_many_use_it_at_once(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for number in range(6):
                asyncio.run(loaded(tmp_path, (first + number) % 4, limit=60_000))
        except BaseException as error:  # noqa: BLE001 - reported by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)
    assert sum(path.stat().st_size for path in kept(tmp_path)) < 2 * 60_000
