"""The random-program soak: many effects, many kills, every total exact and every shared key linearizable.

Rounds of a fresh Worker each. Two hosts serve it; one of them is killed again and again at a moment of chance and is
started anew. Some callers work through an instance of their own and know what it must answer; others share keys, and
what they saw is checked for linearizability; others call without a key, and send nothing again that may be done. A round is determined by its seed (but for the moments), so
`--seed S --rounds 1` runs that round again, and a soak that was interrupted goes on with the next seed.

    python tests/faults/soak.py --effects 1000000 --kills 1000 --seed 1
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import math
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

import aiohttp

from faults.adders import Adder, Counted, NotReady
from faults.asking import Wrong
from faults.hosts import Host, HostDied, Nursery, nursery
from faults.linear import UNKNOWN, Operation, linearizable
from faults.model import Step, encoded
from faults.schedules import Setting
from faults.stores import Place, Servers, servers

ROUND = 20_000
"""Effects of one round."""
_OWNERS, _SHARERS, _ADDERS = 6, 4, 2
_KEYS = 40
_PATIENCE = 90.0
_say = functools.partial(print, flush=True)


@dataclass
class Round:
    """`wanted`: effects. `effects`, `calls`, `kills`: so far. `near`, `far`: what the shared counters must hold,
    `values`: what the keys of the owners must. `once`: calls without a key."""

    seed: int
    wanted: int
    kills_wanted: int
    session: aiohttp.ClientSession
    nursery: Nursery
    place: Place
    hosts: list[Host] = field(default_factory=list)
    effects: int = 0
    calls: int = 0
    kills: int = 0
    near: int = 0
    far: int = 0
    once: Counted = field(default_factory=Counted)
    history: dict[str, list[Operation]] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.effects >= self.wanted and self.kills >= self.kills_wanted

    async def run(self) -> None:
        """Raises `Wrong`."""
        manifest = self.place.write()
        for name in ("a", "b"):
            self.hosts.append(await self._host(name, manifest))
        for host in self.hosts:
            await host.start()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._killer(manifest))
            owners = [_Owner(self, number) for number in range(_OWNERS)]
            for owner in owners:
                tasks.create_task(owner.run())
            for number in range(_SHARERS):
                tasks.create_task(_Sharer(self, number).run())
            adders = [Adder(self, number) for number in range(_ADDERS)]
            for adder in adders:
                tasks.create_task(adder.run())
        for owner in owners:
            await owner.check_memory()
        for adder in adders:
            await adder.end()
        for key, operations in self.history.items():
            if not linearizable(operations):
                raise Wrong(f"the history of {key} is not linearizable: {operations}")

    async def _host(self, name: str, manifest: Path) -> Host:
        return await self.nursery.host(name, manifest, self.place.data, mutant=self.place.setting.mutant)

    async def _killer(self, manifest: Path) -> None:
        """Kills spread over the work, so that both are done at about one time."""
        chance = random.Random(self.seed)
        while not self.over:
            await asyncio.sleep(chance.uniform(0.02, 0.3))
            ahead = self.kills / max(1, self.kills_wanted) > self.effects / self.wanted
            if ahead and self.effects < self.wanted:
                continue
            number = chance.randrange(2)
            host = self.hosts[number]
            await host.kill()
            self.kills += 1
            self.hosts[number] = await self._host(host.name, manifest)
            try:
                await self.hosts[number].start()
            except HostDied:
                raise Wrong(f"a host died while it started: {self.hosts[number].words()}") from None

    async def send(self, instance: str, function: str, body: bytes, headers: dict[str, str]) -> tuple[int, object]:
        """To one of the hosts. Raises `OSError` and `aiohttp.ClientError` when it dies meanwhile."""
        host = random.choice(self.hosts)
        if not host.ready.is_set() or host.ended.is_set():
            host = next((one for one in self.hosts if one.ready.is_set() and not one.ended.is_set()), host)
        if not host.url:
            raise NotReady("no host is ready")
        target = f"{host.url}/v1/instances/{instance}/{function}"
        async with (
            self.session.post(target, data=body, headers=headers)
            if body
            else self.session.get(target, headers=headers) as reply
        ):
            return reply.status, json.loads(await reply.read())

    async def answer(self, instance: str, steps: list[Step] | None, key: str, *, later: bool = False) -> object:
        """Repeat until it is answered. `steps` None: the guest's memory. `later`: as an asynchronous call."""
        headers = {"Idempotency-Key": key, **({"Prefer": "respond-async"} if later else {})}
        function, arguments = ("memory", []) if steps is None else ("run", [steps])
        body, limit = json.dumps(arguments).encode(), time.monotonic() + _PATIENCE
        found: object = None
        accepted = False
        while time.monotonic() < limit:
            try:
                if accepted:
                    status, found = await self.send(instance, f"invocations/{key}", b"", {"Prefer": "wait=2"})
                    assert isinstance(found, dict)
                    if status == 200 and found["state"] == "succeeded":
                        return found["result"]
                    if status == 200 and found["state"] == "failed":
                        raise Wrong(f"{key} of {instance} failed: {found}")
                    continue
                status, found = await self.send(instance, f"functions/{function}", body, headers)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(0.01)
                continue
            if status == 200:
                return found
            if status == 202:
                accepted = True
            elif status in (429, 503, 504):
                await asyncio.sleep(0.02)
            else:
                raise Wrong(f"{key} of {instance} was refused: {status} {found}")
        raise Wrong(f"{key} of {instance} was not answered in {_PATIENCE} s: {found}")


class _Owner:
    """Works through an instance of its own, on keys that nobody else writes, and adds to counters that all share."""

    def __init__(self, round_: Round, number: int) -> None:
        self._round = round_
        self._name = f"owner-{number}"
        self._chance = random.Random(f"{round_.seed}/{number}")
        self._values: dict[str, bytes] = {}
        self._sum = 0
        self._calls = 0
        self._digest: int | None = None

    async def run(self) -> None:
        while not self._round.over:
            steps, expected, near, far, effects = self._program()
            self._calls += 1
            later = self._chance.random() < 0.1
            answer = await self._round.answer(self._name, steps, f"{self._name}-{self._calls}", later=later)
            assert isinstance(answer, list)
            for step, one, wanted in zip(steps, answer, expected, strict=True):
                if wanted is not None and one != wanted:
                    raise Wrong(f"call {self._calls} of {self._name}: {step} gave {one}, not {wanted}")
            self._round.near += near
            self._round.far += far
            self._round.effects += effects
            self._round.calls += 1

    def _program(self) -> tuple[list[Step], list[object], int, int, int]:
        """Steps, what they must answer (None: it depends on others), what the counters gain, how many effects."""
        chance = self._chance
        steps: list[Step] = []
        expected: list[object] = []
        near = far = effects = 0
        for _ in range(4):
            key = self._key()
            steps.append({"get": ["near", key]})
            expected.append({"value": encoded(self._values.get(key))})
        for _ in range(chance.randrange(20, 160)):
            key = self._key()
            if chance.random() < 0.1:
                steps.append({"remove": ["near", key]})
                self._values.pop(key, None)
            else:
                self._values[key] = value = chance.randbytes(8)
                steps.append({"put": ["near", key, encoded(value)]})
            expected.append("nothing")
        if chance.random() < 0.5:
            steps.append({"add": ["near", "total", (delta := chance.randrange(1, 100))]})
            expected.append(None)
            near += delta
        if chance.random() < 0.3:
            steps.append({"add": ["far", "total", (delta := chance.randrange(1, 100))]})
            expected.append(None)
            far += delta
        steps.append({"remember": (delta := chance.randrange(1, 100))})
        self._sum += delta
        expected.append({"number": self._sum})
        key = self._key()
        steps.append({"get": ["near", key]})
        expected.append({"value": encoded(self._values.get(key))})
        if chance.random() < 0.3:
            steps.append("tick")
            expected.append("nothing")
        effects = sum(isinstance(step, dict) and "get" not in step for step in steps)
        return steps, expected, near, far, effects

    def _key(self) -> str:
        return f"{self._name}-{self._chance.randrange(_KEYS)}"

    async def check_memory(self) -> None:
        answer = await self._round.answer(self._name, None, f"{self._name}-look")
        assert isinstance(answer, list)
        if answer[:2] != [self._sum, self._calls]:
            raise Wrong(f"memory of {self._name}: {answer}, not {[self._sum, self._calls]}")
        self._round.values |= self._values


class _Sharer:
    """One of several that act on the same keys at once, each through an instance of its own. Now and then it does not
    wait for an answer that a death withheld: then it does not know the outcome."""

    def __init__(self, round_: Round, number: int) -> None:
        self._round = round_
        self._number = number
        self._name = f"sharer-{number}"
        self._chance = random.Random(f"{round_.seed}/sharer/{number}")
        self._calls = 0

    async def run(self) -> None:
        while not self._round.over:
            await self._operate()
            await asyncio.sleep(self._chance.uniform(0, 0.05))

    async def _operate(self) -> None:
        chance = self._chance
        self._calls += 1
        bucket = chance.choice(["near", "far"])
        kind = chance.choice(["add", "add", "swap", "get"])
        key = chance.choice(["c1", "c2"]) if kind == "add" else chance.choice(["r1", "r2"])
        argument: object = None
        if kind == "get":
            step: Step = {"get": [bucket, key]}
        elif kind == "add":
            argument = chance.randrange(1, 10)
            step = {"add": [bucket, key, argument]}
        else:
            argument = encoded(f"{self._number}-{self._calls}".encode())
            step = {"swap": [bucket, key, argument]}
        called = time.monotonic()
        found: object = UNKNOWN
        returned = math.inf
        name = f"{self._name}-{self._calls}"
        if chance.random() < 0.2:
            found = await self._once(step, name)
        else:
            found = _value(await self._round.answer(self._name, [step], name))
        if found is not UNKNOWN:
            returned = time.monotonic()
            self._round.effects += kind != "get"
            self._round.calls += 1
        operation = Operation(kind, argument, found, called, returned)
        self._round.history.setdefault(f"{bucket}/{key}", []).append(operation)

    async def _once(self, step: Step, key: str) -> object:
        body = json.dumps([[step]]).encode()
        try:
            status, found = await self._round.send(self._name, "functions/run", body, {"Idempotency-Key": key})
        except (aiohttp.ClientError, OSError):
            return UNKNOWN
        return _value(found) if status == 200 else UNKNOWN


def _value(answer: object) -> object:
    """Of the only outcome."""
    assert isinstance(answer, list)
    return next(iter(answer[0].values()))


async def soak_round(
    seed: int, wanted: int, kills: int, hosts: Nursery, running: Servers, *, home: str = "redis", mutant: str = ""
) -> Round:
    """One round. Raises `Wrong`."""
    directory = Path(tempfile.mkdtemp(dir=hosts.directory))
    place = running.place(Setting(home, "Invocation", seed, mutant), directory)
    place.entries, place.attempts = 40, 100
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
            made = Round(seed, wanted, kills, session, hosts, place)
            try:
                await made.run()
                await _check_stores(made, running)
            except* Wrong as group:
                raise Wrong(str(group.exceptions[0])) from None
    finally:
        for host in made.hosts:
            await host.kill()
        await place.clear(running)
        shutil.rmtree(directory, ignore_errors=True)
    return made


async def _check_stores(made: Round, running: Servers) -> None:
    found = await made.place.contents(running)
    totals = [int(found[bucket].get("total", b"0")) for bucket in ("near", "far")]
    if totals != [made.near, made.far]:
        raise Wrong(f"the counters hold {totals}, not {[made.near, made.far]}")
    owned = {key: value for key, value in found["near"].items() if key.startswith("owner-")}
    if owned != made.values:
        differ = {key for key in owned.keys() | made.values if owned.get(key) != made.values.get(key)}
        raise Wrong(f"the store holds other values than were acknowledged: {differ}")


@dataclass
class Totals:
    effects: int = 0
    calls: int = 0
    kills: int = 0
    operations: int = 0
    unknown: int = 0
    once: int = 0
    doubtful: int = 0
    done: int = 0
    rounds: int = 0


async def soak(args: argparse.Namespace) -> Totals:
    totals, begun = Totals(), time.monotonic()
    all_rounds = math.ceil(args.effects / ROUND)
    per_round, rounds = math.ceil(args.kills / all_rounds), args.rounds or all_rounds
    with servers() as running:
        async with nursery() as hosts:
            for number in range(rounds):
                seed = args.seed + number
                try:
                    made = await soak_round(
                        seed, min(ROUND, args.effects), per_round, hosts, running, home=args.home, mutant=args.mutant
                    )
                except Wrong as wrong:
                    for log in sorted(hosts.directory.glob("*.log"), key=lambda path: path.stat().st_mtime)[-3:]:
                        _say(f"== {log.name}\n{log.read_text()[-3000:]}")
                    _say(
                        f"WRONG in round {seed}: {wrong}\n  again: python tests/faults/soak.py --home {args.home} --effects {args.effects} --kills {args.kills} --seed {seed} --rounds 1"
                    )
                    raise
                totals.rounds += 1
                totals.effects += made.effects
                totals.calls += made.calls
                totals.kills += made.kills
                totals.once += made.once.sent
                totals.doubtful += made.once.doubtful
                totals.done += made.once.done
                history = [one for key in made.history.values() for one in key]
                totals.operations += len(history)
                totals.unknown += sum(one.result is UNKNOWN for one in history)
                _say(
                    f"round {number + 1}/{rounds} (seed {seed}): {totals.effects} effects in {totals.calls} calls, "
                    f"{totals.kills} kills, {totals.operations} shared operations linearizable "
                    f"({totals.unknown} of unknown outcome), {totals.once} calls without a key "
                    f"({totals.doubtful} not answered, {totals.done} of them carried out), {time.monotonic() - begun:.0f} s"
                )
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--effects", type=int, default=1_000_000)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each one after it has the next")
    parser.add_argument("--rounds", type=int, default=0, help="only so many of them")
    parser.add_argument("--home", default="redis")
    parser.add_argument("--mutant", default="", help="a store that is wrong on purpose, for a control")
    args = parser.parse_args()
    try:
        asyncio.run(soak(args))
    except Wrong:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
