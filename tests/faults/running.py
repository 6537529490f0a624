"""One schedule: a place of its own, hosts with their faults, a scenario, the checks."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from faults.hosts import Host, Nursery
from faults.model import Model
from faults.player import Player, Wrong
from faults.scenario import Scenario, scripted
from faults.schedules import Schedule
from faults.stores import HOSTS, Servers


@dataclass
class Outcome:
    """`wrong`: what differs from the model, or None. `reached`: by each host, `point:occurrence`. `recovery`: those
    points of the second host that it reached before its first answer. `stopped`: how many of the faults came about."""

    schedule: Schedule
    wrong: str | None = None
    reached: list[list[str]] = field(default_factory=list)
    recovery: list[str] = field(default_factory=list)
    deaths: int = 0
    stopped: int = 0


async def run_schedule(
    schedule: Schedule, nursery: Nursery, servers: Servers, *, traced: bool = False, scenario: Scenario | None = None
) -> Outcome:
    """Never raises for what the product does wrong: that is in the outcome."""
    setting = schedule.setting
    actions = scenario or scripted(setting.seed)
    directory = Path(tempfile.mkdtemp(dir=nursery.directory))
    place = servers.place(setting, directory)
    manifest = place.write()
    outcome = Outcome(schedule)
    faults = [*schedule.faults, None]
    hosts: list[Host] = []
    recovering: list[str] = []

    def answered(host: Host) -> None:
        if len(hosts) > 1 and host is hosts[1] and not recovering:
            recovering.extend(host.reached())

    try:
        for name, fault in zip(HOSTS, faults, strict=False):
            hosts.append(
                await nursery.host(name, manifest, place.data, fault=fault, traced=traced, mutant=setting.mutant)
            )
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            model = Model(effect=setting.mode == "Effect")
            player = Player(session, hosts, place.names(actions.instances), model, answered)
            try:
                await player.play(actions)
                found = await place.contents(servers)
                if found != model.buckets:
                    raise Wrong(f"the stores hold {found}, not {model.buckets}")
            except Wrong as wrong:
                outcome.wrong = str(wrong)
            outcome.deaths = player.deaths
        outcome.reached = [host.reached() for host in hosts]
        outcome.recovery = recovering
        outcome.stopped = sum(host.ended.is_set() or host.was_stopped for host in hosts[: len(schedule.faults)])
    finally:
        for host in hosts:
            await host.kill()
        await place.clear(servers)
        shutil.rmtree(directory, ignore_errors=True)
    return outcome
