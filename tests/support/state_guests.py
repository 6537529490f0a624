"""The guests of tests/guests/state*, and a host whose clock, randomness and notes are its instances' own.

Run as a program (`python -m support.state_guests component directory`) it takes up, in a process of its own, what a
test left in the directory: it restores the snapshots, performs the calls, and prints what came of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from perdure.component.capi import RAW
from perdure.component.component import BoundComponent, Component
from perdure.component.engine import Engine, EngineConfig
from perdure.component.host import HostFunction, HostResource
from perdure.component.instance import Instance
from perdure.component.snapshot import Snapshots
from perdure.component.snapshot.image import place, read_globals
from perdure.component.types import FuncType, ResourceType
from perdure.wasi.recorder import Plain
from perdure.wasi.resolver import WasiResolver
from perdure.wasi.saving import WasiResources
from perdure.wasi.state import WasiState
from support.guests import ROOT, guest, language_guest

CACHE = Path(os.environ.get("PERDURE_CACHE", Path.home() / ".cache" / "perdure"))
LANGUAGES = ("rust", "python", "js", "go")
_HOST = "perdure:state/host"


def state_guest(language: str) -> Path:
    """The component, built where it is not kept yet."""
    if language == "rust":
        return guest("state")
    return language_guest(language, "state")


@dataclass(frozen=True)
class Note:
    name: str


@dataclass
class World:
    """An instance's host context. Each reading of the clock or of randomness moves it on, so that equal worlds see
    equal calls."""

    clock: int = 0
    notes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wasi = WasiState(self, self.tick, self.tick, self.entropy)

    def tick(self) -> int:
        self.clock += 1000
        return self.clock

    def entropy(self, size: int) -> bytes:
        self.clock += 1
        return hashlib.shake_128(str(self.clock).encode()).digest(size)

    @property
    def replaying(self) -> bool:
        return False

    def expects(self, call: str) -> bool:
        return False

    def record(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Plain]) -> Plain:
        return produce()

    async def record_async(self, call: str, args: tuple[Plain, ...], produce: Callable[[], Awaitable[Plain]]) -> Plain:
        return await produce()

    def save(self) -> dict[str, object]:
        return {**asdict(self), "latest": self.wasi.latest_ns}

    @classmethod
    def load(cls, saved: dict[str, object]) -> World:
        latest = saved.pop("latest")
        made = cls(**saved)  # type: ignore[arg-type]
        made.wasi.latest_ns = latest  # type: ignore[assignment]
        return made

    def append(self, note: Note, text: str) -> int:
        self.notes[note.name] = self.notes.get(note.name, 0) + len(text.encode())
        return self.notes[note.name]


class StateHost(WasiResolver):
    """WASI and `perdure:state/host`."""

    _functions: dict[str, HostFunction] = {
        "now": lambda world: world.tick(),
        "random": lambda world: int.from_bytes(world.entropy(8), "little"),
        "[constructor]note": lambda world, name: Note(name),
        "[method]note.append": lambda world, note, text: world.append(note, text),
    }

    def function(self, interface: str, name: str, type: FuncType) -> HostFunction | None:  # noqa: A002
        return self._functions[name] if interface == _HOST else super().function(interface, name, type)

    def resource(self, interface: str, name: str) -> HostResource | None:
        return HostResource() if interface == _HOST else super().resource(interface, name)


class Codec(WasiResources):
    """Notes are their names."""

    def encode(self, resource: ResourceType, representation: object) -> bytes | None:
        if isinstance(representation, Note):
            return representation.name.encode()
        return super().encode(resource, representation)

    def decode(self, context: object, resource: ResourceType, data: bytes) -> object:
        return Note(data.decode()) if resource.name == "note" else super().decode(context, resource, data)


CODEC = Codec()
Operation = tuple[str, list[object]]


@dataclass
class Guest:
    """A loaded component."""

    bound: BoundComponent
    snapshots: Snapshots

    async def instance(self, world: World | None = None) -> Instance:
        return await self.bound.instantiate(world or World())

    async def perform(self, instance: Instance, operations: Sequence[Operation]) -> list[object]:
        exports = {func.name: func for func in self.bound.component.exports}
        return [await instance.call(exports[name], args) for name, args in operations]


@asynccontextmanager
async def loaded(component: Path) -> AsyncIterator[Guest]:
    """With compiled code kept from run to run: interpreters take long to compile."""
    with Engine(EngineConfig(cache_dir=CACHE / "compiled-guests")) as engine:
        bound = (await Component.load(engine, component.read_bytes())).bind(StateHost())
        snapshots = await Snapshots.prepare(bound)
        yield Guest(bound, snapshots)
        snapshots.close()


def operations(chance: random.Random, count: int) -> list[Operation]:
    """Calls that each guest can carry out, in any order, from a fresh instance."""
    made: list[Operation] = [("hold", ["first"])]
    held = 1
    while len(made) < count:
        key = f"key-{chance.randrange(12)}"
        kind = chance.choice(
            ("count", "remember", "recall", "forget", "churn", "grow", "stamp", "hold", "write", "release")
        )
        match kind:
            case "remember":
                args: list[object] = [key, "v" * chance.randrange(300)]
            case "recall" | "forget":
                args = [key]
            case "churn":
                args = [chance.randrange(200)]
            case "grow":
                args = [chance.randrange(40_000)]
            case "hold":
                args = [key]
                held += 1
            case "write":
                args = [chance.randrange(held), key]
            case _:
                args = []
        if kind == "release":
            if held == 1:
                continue
            held -= 1
        made.append((kind, args))
    return made


def fingerprint(instance: Instance) -> str:
    """A digest of every byte of memory, every mutable global and every handle: nothing of snapshots is used."""
    layout = instance.bound.component.layout
    digest = hashlib.sha256(read_globals(instance, layout.globals))
    for memory in layout.memories:
        address, size = place(instance, memory)
        digest.update(RAW[address : address + size])
    resources = instance.bound.component.plan.resources
    for table in instance.tables:
        slots, free, handles = table.saved()
        told = [(slot, resources.index(handle.resource), handle.representation) for slot, handle in handles]
        digest.update(repr((slots, free, told)).encode())
    return digest.hexdigest()


def in_another_process(
    component: Path, directory: Path, chain: Sequence[bytes], world: World, calls: Sequence[Operation]
) -> dict[str, object]:
    """Restore and go on elsewhere: `results`, `fingerprint`, `clock`, and the `checksum` of a full snapshot."""
    for number, data in enumerate(chain):
        (directory / f"{number}.snapshot").write_bytes(data)
    (directory / "task.json").write_text(json.dumps({"chain": len(chain), "world": world.save(), "calls": calls}))
    done = subprocess.run(
        [sys.executable, "-m", "support.state_guests", str(component), str(directory)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'tests'}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


async def outcome(guest: Guest, instance: Instance, calls: Sequence[Operation]) -> dict[str, object]:
    """Go on here, and tell the same."""
    results = await guest.perform(instance, calls)
    world = instance.host_context
    assert isinstance(world, World)
    return {
        "results": results,
        "fingerprint": fingerprint(instance),
        "world": world.save(),
        "checksum": guest.snapshots.capture(instance, codec=CODEC).checksum.hex(),
    }


async def _main(component: Path, directory: Path) -> None:
    task = json.loads((directory / "task.json").read_text())
    chain = [(directory / f"{number}.snapshot").read_bytes() for number in range(task["chain"])]
    async with loaded(component) as guest:
        instance, _ = await guest.snapshots.restore(chain, World.load(task["world"]), codec=CODEC)
        print(json.dumps(await outcome(guest, instance, task["calls"])))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), Path(sys.argv[2])))
