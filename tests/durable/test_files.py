"""Files of guests: read through the standard library, and the same on replay whatever became of them."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from perdure.component.component import BoundComponent
from perdure.durable.instance import DurableInstance
from perdure.durable.store import Store
from perdure.errors import Quarantined, SnapshotRefused
from perdure.wasi.files import descriptors
from perdure.wasi.files.tree import Mount
from perdure.wasi.state import WasiState
from support.engine import call, deadline, environment, library


@pytest.fixture
def data(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    (found / "sub").mkdir(parents=True)
    (found / "a.txt").write_bytes(b"first")
    (found / "sub" / "b.txt").write_bytes(bytes(200_000))
    (tmp_path / "secret").write_bytes(b"secret")
    (found / "out").symlink_to("../secret")
    return found


async def opened(bound: BoundComponent, home: Store, *mounts: Mount) -> DurableInstance:
    made = environment({"home": home}, mounts=mounts)
    return await DurableInstance.open("alice", library(bound), made, deadline=deadline())


async def ask(instance: DurableInstance, bound: BoundComponent, name: str, *args: object) -> Any:
    return json.loads((await call(instance, bound, name, *args)).body)


def ok(data: bytes) -> dict[str, str]:
    return {"ok": base64.b64encode(data).decode()}


async def test_what_can_be_read(place: BoundComponent, home: Store, data: Path) -> None:
    instance = await opened(place, home, Mount("/etc/app", data), Mount("/more", data / "sub"))
    assert await ask(instance, place, "read", "/etc/app/a.txt") == ok(b"first")
    assert await ask(instance, place, "read", "/more/b.txt") == ok(bytes(200_000))
    assert await ask(instance, place, "read-some", "/etc/app/a.txt", 2, 2) == ok(b"rs")
    assert await ask(instance, place, "read-some", "/etc/app/a.txt", 9, 2) == ok(b"")
    assert await ask(instance, place, "entries", "/etc/app") == {"ok": ["a.txt", "out", "sub/"]}
    os.mkfifo(data / "pipe")
    assert await ask(instance, place, "entries", "/etc/app") == {"ok": ["a.txt", "out", "pipe", "sub/"]}
    assert await ask(instance, place, "read", "/etc/app/pipe") == {"err": "unsupported"}
    assert await ask(instance, place, "about", "/etc/app/sub/b.txt") == {"ok": [200_000, False]}
    assert await ask(instance, place, "about", "/etc/app/sub/") == {"ok": [0, True]}
    assert await ask(instance, place, "read", "/etc/app/none") == {"err": "entity not found"}
    for path in ("/etc/app/out", "/etc/app/../../secret", "/etc/app/sub/../../secret", "/etc/passwd", "secret"):
        assert "err" in await ask(instance, place, "read", path), path
    assert "secret" not in json.dumps(await ask(instance, place, "read", "/etc/app/out"))
    instance.close()


async def test_nothing_can_be_changed(place: BoundComponent, home: Store, data: Path) -> None:
    instance = await opened(place, home, Mount("/etc/app", data))
    before = sorted((str(path), path.read_bytes()) for path in data.rglob("*.txt"))
    errors = await ask(instance, place, "changes", "/etc/app/a.txt")
    assert len(errors) == 8 and set(errors) == {"read-only filesystem or storage medium"}
    assert sorted((str(path), path.read_bytes()) for path in data.rglob("*.txt")) == before
    instance.close()


async def test_replay_reads_what_was_there(place: BoundComponent, home: Store, data: Path) -> None:
    mount = Mount("/etc/app", data)
    instance = await opened(place, home, mount)
    for function, path in (
        ("read", "a.txt"),
        ("entries", ""),
        ("about", "sub/b.txt"),
        ("read", "sub/b.txt"),
        ("read", "none"),
    ):
        await ask(instance, place, function, f"/etc/app/{path}")
    seen = await ask(instance, place, "seen")
    instance.close()
    (data / "a.txt").write_bytes(b"second")
    (data / "none").write_bytes(b"is there now")
    shutil.rmtree(data / "sub")
    again = await opened(place, home, mount)
    assert await ask(again, place, "seen") == seen
    assert await ask(again, place, "read", "/etc/app/a.txt") == ok(b"second"), "and now what is there now"
    again.close()
    # Mounts that are gone do not change the past either.
    last = await opened(place, home)
    assert (await ask(last, place, "seen"))[: len(seen)] == seen
    assert await ask(last, place, "read", "/etc/app/a.txt") == {"err": "entity not found"}
    last.close()


async def test_without_the_record_replay_would_differ(
    place: BoundComponent, home: Store, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: contents that are not recorded."""

    async def unrecorded(state: WasiState, descriptor: descriptors.Descriptor) -> bytes:
        return (data / descriptor.path).read_bytes()

    monkeypatch.setattr(descriptors, "_content", unrecorded)
    instance = await opened(place, home, Mount("/etc/app", data))
    await ask(instance, place, "read", "/etc/app/a.txt")
    seen = await ask(instance, place, "seen")
    instance.close()
    (data / "a.txt").write_bytes(b"other")
    again = await opened(place, home, Mount("/etc/app", data))
    assert await ask(again, place, "seen") != seen
    again.close()


async def test_a_file_that_is_kept_open(place: BoundComponent, home: Store, data: Path) -> None:
    """It is the same file for as long as it is open, though another one takes its place."""
    mount = Mount("/etc/app", data)
    instance = await opened(place, home, mount)
    await ask(instance, place, "keep", "/etc/app/a.txt")
    assert await ask(instance, place, "next", 2) == ok(b"fi")
    (data / "a.txt").write_bytes(b"XXXXX")
    assert await ask(instance, place, "next", 2) == ok(b"rs")
    with pytest.raises(SnapshotRefused, match="descriptor"):
        await instance._runner.capture(None, None)
    instance.close()
    again = await opened(place, home, mount)
    assert await ask(again, place, "next", 9) == ok(b"t")
    again.close()


async def test_snapshots_keep_the_mounts(place: BoundComponent, home: Store, data: Path) -> None:
    mount = Mount("/etc/app", data)
    instance = await opened(place, home, mount)
    await ask(instance, place, "read", "/etc/app/a.txt")
    seen = await ask(instance, place, "seen")
    taken = await instance.capture()
    assert taken is not None
    assert await instance.keep(taken, instance.sequence)
    instance.close()
    again = await opened(place, home, mount)
    assert await ask(again, place, "seen") == seen
    assert await ask(again, place, "read", "/etc/app/a.txt") == ok(b"first")
    again.close()


async def test_mounts_that_are_new(place: BoundComponent, home: Store, data: Path) -> None:
    """An instance that found none before is replayed as it was."""
    instance = await opened(place, home)
    assert "err" in await ask(instance, place, "read", "/etc/app/a.txt")
    seen = await ask(instance, place, "seen")
    instance.close()
    try:
        again = await opened(place, home, Mount("/etc/app", data))
    except Quarantined as error:
        pytest.fail(str(error))
    assert await ask(again, place, "seen") == seen
    again.close()
