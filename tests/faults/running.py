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
    """`wrong`: what differs from the model, or None. `reached`: by the first host, `point:occurrence`. `recovery`: those
    points that the second one reached before its first answer. `came`: how many of the faults came about."""

    schedule: Schedule
    wrong: str | None = None
    reached: list[str] = field(default_factory=list)
    recovery: list[str] = field(default_factory=list)
    came: int = 0


async def run_schedule(
    schedule: Schedule, nursery: Nursery, servers: Servers, *, traced: bool = False, scenario: Scenario | None = None
) -> Outcome:
    """Never raises for what the product does wrong: that is in the outcome."""
    setting = schedule.setting
    actions = scenario or scripted(setting.seed)
    directory = Path(tempfile.mkdtemp(dir=nursery.directory))
    place = servers.place(setting, directory)
    # Each host that dies with a call has used one of its attempts up.
    place.attempts = max(4, len(schedule.faults) + 2)
    manifest = place.write()
    outcome = Outcome(schedule)
    hosts: list[Host] = []

    async def another() -> Host:
        number = len(hosts)
        fault = schedule.faults[number] if number < len(schedule.faults) else None
        name = HOSTS[number] if number < len(HOSTS) else f"z{number}"
        return await nursery.host(name, manifest, place.data, fault=fault, traced=traced, mutant=setting.mutant)

    def answered(host: Host) -> None:
        if len(hosts) > 1 and host is hosts[1] and not outcome.recovery:
            outcome.recovery = host.reached()

    def came() -> int:
        return sum(host.fault is not None and (host.ended.is_set() or host.was_stopped) for host in hosts)

    def settled() -> bool:
        return bool(schedule.faults) and came() == len(schedule.faults)

    try:
        hosts.append(await another())
        if schedule.faults and schedule.faults[0].how != "restart":
            # It waits already when the first one goes.
            hosts.append(await another())
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            model = Model(effect=setting.mode == "Effect")
            names = place.names(actions.instances)
            player = Player(
                session, hosts, names, model, answered, spare=another, restart=servers.restart, settled=settled
            )
            try:
                await player.play(actions)
                found = await place.contents(servers)
                if found != model.buckets:
                    raise Wrong(f"the stores hold {found}, not {model.buckets}")
            except Wrong as wrong:
                outcome.wrong = str(wrong)
            finally:
                await player.end()
        outcome.reached = hosts[0].reached()
        outcome.came = came()
    finally:
        for host in hosts:
            await host.kill()
        await place.clear(servers)
        shutil.rmtree(directory, ignore_errors=True)
    return outcome
