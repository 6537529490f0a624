"""Stores that lose what they acknowledged: emptied, or with an old file put back, under hosts that run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from faults.asking import Wrong
from faults.hosts import Host, Nursery
from faults.model import Model
from faults.player import Player
from faults.scenario import Call
from faults.schedules import Setting
from faults.stores import Place, Servers, servers


@dataclass
class World:
    """Two hosts of a Worker on servers of its own. `players`: a client of each host, who share what they know."""

    servers: Servers
    place: Place
    hosts: list[Host]
    players: list[Player]
    session: aiohttp.ClientSession
    nursery: Nursery

    async def another(self) -> Player:
        """A host that is started now, and its client."""
        host = await self.nursery.host("c", self.place.directory / "worker.yaml", self.place.data)
        self.hosts.append(host)
        await host.start()
        first = self.players[0]
        return Player(self.session, [host], first.names, first.model)

    def keep(self) -> Path:
        """A copy of Redis' files as they are now."""
        return Path(shutil.copytree(self._files, self._files.with_name("kept"), dirs_exist_ok=True))

    def put_back(self, kept: Path) -> None:
        """Redis dies, and comes back with those."""
        self.servers.redis.stop()
        shutil.rmtree(self._files)
        shutil.copytree(kept, self._files)
        self.servers.redis.start()

    @property
    def _files(self) -> Path:
        return self.servers.redis.directory / "appendonlydir"


@asynccontextmanager
async def world(nursery: Nursery, mutant: str = "") -> AsyncIterator[World]:
    setting = Setting("redis", "Invocation", 1, mutant)
    with servers() as running:
        place = running.place(setting, Path(tempfile.mkdtemp(dir=nursery.directory)))
        manifest = place.write()
        hosts = [await nursery.host(name, manifest, place.data, mutant=mutant) for name in ("a", "b")]
        async with aiohttp.ClientSession() as session:
            model, names = Model(effect=False), place.names(["alice", "zoe"])
            players = [Player(session, [host], names, model) for host in hosts]
            made = World(running, place, hosts, players, session, nursery)
            try:
                for host in hosts:
                    await host.start()
                yield made
            finally:
                for host in made.hosts:
                    await host.kill()


async def two_owners_of_one_epoch(nursery: Nursery, mutant: str = "") -> str | None:
    """A store forgets a claim, and gives its epoch to another host. What a host answers wrongly then, or None."""
    async with world(nursery, mutant) as made:
        first, second = made.players
        await first.carry_out(Call("zoe", [{"remember": 1}], "key-0"))
        kept = made.keep()
        await first.carry_out(Call("alice", [{"remember": 1}], "key-1"))
        made.put_back(kept)
        # What was acknowledged since then is lost, and so is alice's memory of it.
        first.model.memories.pop("alice")
        try:
            await second.carry_out(Call("alice", [{"remember": 10}], "key-2"))
            await first.carry_out(Call("alice", [{"remember": 100}], "key-3"))
        except Wrong as wrong:
            return str(wrong)
    return None
