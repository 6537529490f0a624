"""One schedule: a place of its own, hosts with their faults, a scenario, the checks."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from faults.asking import Wrong
from faults.clerk.model import ClerkModel
from faults.clerk.outside import Outside, outside_server
from faults.clerk.player import ClerkPlayer
from faults.clerk.scenario import errands
from faults.hosts import Host, Nursery
from faults.model import Model
from faults.player import Player
from faults.scenario import Scenario, scripted
from faults.schedules import Schedule, Setting
from faults.stores import HOSTS, Servers


@dataclass
class Outcome:
    """`wrong`: what differs from the model, or None. `reached`: by the first host, `point:occurrence`; `beside`: by the
    second one. `recovery`: those points that the second one reached between the first one's death and its own first
    answer. `came`: how many of the faults came about."""

    schedule: Schedule
    wrong: str | None = None
    reached: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    recovery: list[str] = field(default_factory=list)
    came: int = 0


async def run_schedule(
    schedule: Schedule,
    nursery: Nursery,
    servers: Servers,
    *,
    traced: bool = False,
    scenario: Scenario | None = None,
    quick: dict[str, float] | None = None,
) -> Outcome:
    """Never raises for what the product does wrong: that is in the outcome. `quick`: timings, see `Nursery.host`."""
    setting = schedule.setting
    clerks = setting.guest == "clerk"
    actions = scenario or (errands if clerks else scripted)(setting.seed)
    directory = Path(tempfile.mkdtemp(dir=nursery.directory))
    place = servers.place(setting, directory)
    # Each host that dies with a call has used one of its attempts up.
    place.attempts = max(4, len(schedule.faults) + 2)
    outcome = Outcome(schedule)
    hosts: list[Host] = []
    before = 0

    async def another() -> Host:
        number = len(hosts)
        fault = schedule.faults[number] if number < len(schedule.faults) else None
        name = HOSTS[number] if number < len(HOSTS) else f"z{number}"
        return await nursery.host(
            name, manifest, place.data, fault=fault, traced=traced, mutant=setting.mutant, quick=quick
        )

    def answered(host: Host) -> None:
        nonlocal before
        if len(hosts) > 1 and host is hosts[0]:
            before = len(hosts[1].reached())
        if len(hosts) > 1 and host is hosts[1] and not outcome.recovery:
            outcome.recovery = host.reached()[before:]

    def came() -> int:
        return sum(host.fault is not None and (host.ended.is_set() or host.was_stopped) for host in hosts)

    def settled() -> bool:
        return bool(schedule.faults) and came() == schedule.number

    async with AsyncExitStack() as stack:
        outside = await stack.enter_async_context(outside_server()) if clerks else None
        place.allowed = outside.authority if outside is not None else ""
        manifest = place.write()
        try:
            hosts.append(await another())
            if clerks or (schedule.number and ((first := schedule.faults[0]) is None or first.how != "restart")):
                # It waits already when the first one goes, and does what is its own.
                hosts.append(await another())
            timeout = aiohttp.ClientTimeout(total=60)
            session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
            player = _player(session, hosts, place.names(actions.instances), setting, outside)
            player.answered, player.spare, player.restart, player.settled = answered, another, servers.restart, settled
            try:
                await player.play(actions)
                found = await place.contents(servers, player.model.buckets)
                if found != player.model.buckets:
                    raise Wrong(f"the stores hold {found}, not {player.model.buckets}")
                if outside is not None and (wrong := outside.wrong()):
                    raise Wrong(f"requests outside: {wrong}")
                if isinstance(player, ClerkPlayer) and not any(host.was_stopped for host in hosts):
                    await player.strays(came())
            except Wrong as wrong:
                outcome.wrong = str(wrong)
            finally:
                await player.end()
            outcome.reached = hosts[0].reached()
            outcome.beside = hosts[1].reached() if len(hosts) > 1 else []
            outcome.came = came()
        finally:
            for host in hosts:
                await host.kill()
            await place.clear(servers)
            shutil.rmtree(directory, ignore_errors=True)
    return outcome


def _player(
    session: aiohttp.ClientSession,
    hosts: list[Host],
    names: dict[str, str],
    setting: Setting,
    outside: Outside | None,
) -> Player:
    effect, anew = setting.mode == "Effect", setting.memory == "Invocation"
    if outside is None:
        return Player(session, hosts, names, Model(effect=effect, anew=anew))
    return ClerkPlayer(session, hosts, names, ClerkModel(effect=effect, anew=anew, outside=outside))
