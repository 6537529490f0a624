"""The network sweep: one host that lives, behind a relay that harms the exchanges of its operations one after another.

For each operation its request and its reply are cut after 0, 1, 2 … bytes, swallowed, reset and delayed, beyond the
host's patience, too, so that it sends again what arrives later. Each harm gets one call, whose answer is compared with
the model's, and at the end what the stores hold.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from faults.asking import Wrong
from faults.hosts import Nursery
from faults.model import Model, Step
from faults.player import Player
from faults.relay import Harm, Relay, relay
from faults.scenario import Action, Call, Control, Later, Look
from faults.schedules import Setting
from faults.stores import Servers, through

PATIENCE = 0.3
"""Seconds after which the host takes a store for silent."""
_QUIET = {"announce": 30.0, "ttl": 120.0, "dispatch": 0.2}


@dataclass(frozen=True)
class Target:
    """An operation, and how a relay knows its request. `away`: at the foreign store. `coarse`: only every so many bytes
    of its exchange are tried."""

    name: str
    needle: bytes
    least: int = 1
    away: bool = False
    coarse: int = 1


REDIS = (
    Target("commit", b"perdure_commit_"),
    Target("foreign", b"perdure_foreign_", away=True),
    Target("read", b"perdure_read_", coarse=7),
    Target("applied", b"perdure_applied_", coarse=7),
    Target("enqueue", b"perdure_enqueue_", coarse=7),
    Target("take", b"perdure_take_", coarse=7),
    Target("snapshot", b"perdure_snapshot_", coarse=997),
)
# A prepared statement is not named in the bytes of its execution: the next large request is a commit (1,200 bytes; what a
# host asks besides is up to 250).
POSTGRES = (Target("commit", b"", 600),)


@dataclass
class NetworkTally:
    """`harms`: by (home, operation, way, how)."""

    harms: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    struck: int = 0
    wrong: list[str] = field(default_factory=list)


class _Calls:
    """Calls whose answers tell how often those before them were carried out."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._count = 0

    def next(self, target: Target) -> Action:
        self._count += 1
        key, number = f"call-{self._count}", self._chance.randrange(1, 1000)
        add: Step = {"add": ["far" if target.away or target.name == "applied" else "near", "n", number]}
        put: Step = {"put": ["near", "a", "YWJj"]}
        match target.name:
            case "enqueue" | "take":
                return Later("bob", [(key, [add])])
            case "snapshot":
                return Control("alice", ("snapshot",))
            case "read":
                return Call("alice", [{"get": ["near", "n"]}, {"remember": number}], key)
        return Call("alice", [put, add, {"remember": number}], key)


async def network_sweep(
    home: str,
    nursery: Nursery,
    servers: Servers,
    seed: int,
    *,
    step: int = 1,
    most: int | None = None,
    only: str = "",
    chosen: Sequence[Harm] = (),
    mutant: str = "",
    tally: NetworkTally | None = None,
    say: Callable[[str], None] = print,
) -> NetworkTally:
    """`step`: of the byte counts. `most`: harms of an operation, a random choice of them. `only`: this operation.
    `chosen`: these harms."""
    tally = NetworkTally() if tally is None else tally
    setting, chance = Setting(home, "Invocation", seed), random.Random(seed)
    directory = Path(tempfile.mkdtemp(dir=nursery.directory))
    place = servers.place(setting, directory)
    home_port = urlsplit(place.home_url).port
    assert home_port is not None
    async with relay(home_port) as near, relay(servers.redis.port) as far:
        place.home_url = place.home_url.replace(str(home_port), str(near.port))
        place.away_url = through(place.away_url, port=far.port, database=1)
        place.timeout = f"{int(PATIENCE * 1000)}ms"
        place.entries = 1000
        host = await nursery.host("a", place.write(), place.data, quick=_QUIET, mutant=mutant)
        try:
            await host.start()
            async with aiohttp.ClientSession() as session:
                player = Player(session, [host], place.names(["alice", "bob"]), Model(effect=False))
                calls = _Calls(seed)
                for target in REDIS if home == "redis" else POSTGRES:
                    if only not in ("", target.name):
                        continue
                    through_it = far if target.away else near
                    # The second time it is as it will be.
                    for _ in range(2):
                        through_it.arm(None, target.needle, target.least)
                        await player.carry_out(calls.next(target))
                    harms = list(chosen or _harms(through_it, step * target.coarse))
                    if most is not None:
                        harms = _some(harms, most, chance)
                    for harm in harms:
                        await _strike(harm, target, through_it, player, calls, tally, setting, say)
                for name in ("alice", "bob"):
                    await player.carry_out(Look(name))
                found = await place.contents(servers)
                if found != player.model.buckets:
                    tally.wrong.append(f"the stores hold {found}, not {player.model.buckets}")
        except Wrong as wrong:
            tally.wrong.append(f"{home}, seed {seed}: {wrong}")
        finally:
            await host.kill()
            await place.clear(servers)
    return tally


def _some(harms: list[Harm], most: int, chance: random.Random) -> list[Harm]:
    """A random choice, of each way and kind about as many."""
    chance.shuffle(harms)
    kinds: dict[tuple[str, str], list[Harm]] = {}
    for harm in harms:
        kinds.setdefault((harm.way, harm.how), []).append(harm)
    rounds = itertools.zip_longest(*kinds.values())
    return [harm for round_ in rounds for harm in round_ if harm is not None][:most]


def _harms(measured: Relay, step: int) -> Iterable[Harm]:
    """For an exchange of these sizes."""
    for way, size in (("up", measured.request), ("down", measured.reply)):
        for count in range(0, size, step):
            yield Harm(way, "cut", count)
        for count in {0, size // 2, size - 1}:
            yield Harm(way, "reset", count)
            yield Harm(way, "swallow", count)
        yield Harm(way, "late", seconds=0.1)
        yield Harm(way, "late", seconds=PATIENCE * 1.5)


async def _strike(
    harm: Harm,
    target: Target,
    through_it: Relay,
    player: Player,
    calls: _Calls,
    tally: NetworkTally,
    setting: Setting,
    say: Callable[[str], None],
) -> None:
    tally.harms[setting.home, target.name, harm.way, harm.how] += 1
    through_it.arm(harm, target.needle, target.least)
    try:
        await player.carry_out(calls.next(target))
    except Wrong as wrong:
        say(
            f"WRONG under {harm} of {target.name}: {wrong}\n  again: python tests/faults/all.py --only network --homes {setting.home} --seed {setting.seed}"
        )
        raise
    tally.struck += through_it.struck.is_set()
    if harm.how == "late":
        # What is on its way arrives, and must find that it has been before.
        await asyncio.sleep(harm.seconds)
