"""Snapshots and trimming: what is recovered, and how much has to be replayed for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from typing_extensions import override

from perdure.component.component import BoundComponent
from perdure.durable.calls import decode_halt
from perdure.durable.control import Verb
from perdure.durable.instance import DurableInstance
from perdure.durable.records import Claim, SnapshotWrite
from perdure.durable.settings import SnapshotPolicy
from perdure.durable.store import Store
from perdure.errors import Quarantined
from perdure.host.instances import InstanceTable
from perdure.providers.memory import MemoryStore, MemoryWorld
from support.engine import WORKER, call, deadline, environment, library

OFTEN = SnapshotPolicy(replay_ms=1_000_000, entries=5, bytes=1 << 30, chain=3)
NEVER = SnapshotPolicy(replay_ms=1_000_000, entries=1 << 30, bytes=1 << 40)


def remember(number: int) -> list[object]:
    return [{"remember": number}, "tick", {"put": ["b", "k", "QUJD"]}, {"get": ["b", f"missing-{number}"]}]


@asynccontextmanager
async def opened(bound: BoundComponent, home: Store, **settings: object) -> AsyncIterator[DurableInstance]:
    code = library(bound)
    instance = await DurableInstance.open("alice", code, environment({"home": home}, **settings), deadline=deadline())
    try:
        yield instance
    finally:
        instance.close()
        code.close()


async def memory(instance: DurableInstance, bound: BoundComponent) -> list[object]:
    found: list[object] = json.loads((await call(instance, bound, "memory")).body)
    return found


async def keep(instance: DurableInstance) -> None:
    taken = await instance.capture()
    assert taken is not None
    assert await instance.keep(taken, instance.sequence)


async def test_a_snapshot_stands_for_the_journal_before_it(ledger: BoundComponent, home: Store) -> None:
    async with opened(ledger, home) as instance:
        for number in range(1, 8):
            await call(instance, ledger, "run", remember(number))
            if number in (3, 5):
                await keep(instance)
        expected = await memory(instance, ledger)
    data = await home.peek("alice")
    assert data is not None and data.snapshot is not None
    assert (data.snapshot.sequence, data.first, data.sequence) == (5, 6, 8)
    async with opened(ledger, home) as again:
        assert await memory(again, ledger) == expected
        assert expected[:2] == [28, 7]


async def test_the_journal_alone_gives_the_same(ledger: BoundComponent, home: Store) -> None:
    """The negative control of the above: nothing was kept but entries."""
    async with opened(ledger, home) as instance:
        for number in range(1, 8):
            await call(instance, ledger, "run", remember(number))
        expected = await memory(instance, ledger)
    data = await home.peek("alice")
    assert data is not None and data.snapshot is None and len(data.journal) == 8
    async with opened(ledger, home) as again:
        assert await memory(again, ledger) == expected


async def test_large_states_are_kept_as_differences(ledger: BoundComponent, home: Store) -> None:
    async with opened(ledger, home, snapshots=OFTEN) as instance:
        # Bytes that do not compress well are what the digest makes of the clock; many small hoards suffice here.
        await call(instance, ledger, "run", [{"hoard": 1 << 22}, {"remember": 1}])
        sizes = []
        for number in range(5):
            await call(instance, ledger, "run", remember(number))
            taken = await instance.capture()
            assert taken is not None and await instance.keep(taken, instance.sequence)
            sizes.append(len(taken.data))
        expected = await memory(instance, ledger)
    async with opened(ledger, home, snapshots=OFTEN) as again:
        assert await memory(again, ledger) == expected


async def test_a_table_takes_snapshots_by_itself(ledger: BoundComponent, home: Store) -> None:
    import asyncio

    code = library(ledger)
    table = InstanceTable(
        code, environment({"home": home}, snapshots=OFTEN), max_in_memory=10, max_queued=10, timeout=30
    )
    saving = asyncio.create_task(table.run())
    try:
        for number in range(23):
            await call((table, "alice"), ledger, "run", remember(number))
        async with asyncio.timeout(60):
            while (data := await home.peek("alice")) is None or data.snapshot is None or len(data.journal) >= 5:
                await asyncio.sleep(0.01)
        assert len(data.snapshot.parts) <= OFTEN.chain + 1
        before = json.loads((await call((table, "alice"), ledger, "memory")).body)
        table.forget("alice")
        assert json.loads((await call((table, "alice"), ledger, "memory")).body) == before
        await table.control("alice", Verb.SNAPSHOT)
        data = await home.peek("alice")
        assert data is not None and data.journal == []
    finally:
        saving.cancel()
        table.close()
        code.close()


async def test_a_damaged_snapshot_is_named_and_quarantines(ledger: BoundComponent, home: Store) -> None:
    async with opened(ledger, home) as instance:
        await call(instance, ledger, "run", remember(1))
        taken = await instance.capture()
        assert taken is not None
        bad = taken.data[:-1] + bytes([taken.data[-1] ^ 1])
        assert await home.snapshot(SnapshotWrite("alice", instance.token, instance.sequence, bad, None))
    with pytest.raises(Quarantined, match="checksum"):
        async with opened(ledger, home):
            pass
    info = await home.instance("alice")
    assert info is not None and info.halt is not None and "checksum" in decode_halt(info.halt).reason
    # Nobody tries again, until somebody says so.
    with pytest.raises(Quarantined, match="is quarantined: the snapshot is damaged"):
        async with opened(ledger, home):
            pass


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ({"snapshot": None}, "entries 1 to 3 are missing: there is no snapshot"),
        ({"snapshot": None, "journal": []}, "entries 1 to 6 are missing: there is no snapshot"),
        ({"journal": []}, "the snapshot is of sequence 3, but the journal begins at 7"),
        ({"without": 5}, "entry 5 is missing: entry 4 is followed by entry 6"),
        ({"without": 6}, "entry 6 is missing: 6 commits are counted"),
    ],
    ids=["the snapshot", "everything", "the journal", "an entry", "the last entry"],
)
async def test_what_is_gone_is_not_taken_for_nothing(
    ledger: BoundComponent, lost: dict[str, object], words: str
) -> None:
    """Memory that would be made of what is left would be wrong without anybody noticing."""
    home = Forgetful(MemoryWorld(), WORKER)
    async with opened(ledger, home) as instance:
        for number in range(1, 7):
            await call(instance, ledger, "run", [{"remember": number}])
            if number == 3:
                await keep(instance)
    # The control: all of it is there.
    async with opened(ledger, home) as again:
        assert (await memory(again, ledger))[:2] == [21, 6]
    async with opened(ledger, home) as last:
        assert last.sequence == 7
    home.lost = lost
    home.sequence = 6
    with pytest.raises(Quarantined, match=words):
        async with opened(ledger, home):
            pass
    info = await home.instance("alice")
    assert info is not None and info.halt is not None and words in decode_halt(info.halt).reason


class Forgetful(MemoryStore):
    """Claims give instances as of `sequence`, without what is `lost`: fields, or one entry of the journal."""

    lost: dict[str, object] | None = None
    sequence = 0

    @override
    async def claim(self, instance: str, nonce: str, host: str) -> Claim:
        claim = await super().claim(instance, nonce, host)
        if self.lost is None:
            return claim
        data = claim.data
        kept = data.journal[: self.sequence - data.first + 1]
        if (gone := self.lost.get("without")) is not None:
            assert isinstance(gone, int)
            del kept[gone - data.first]
        changes = {name: value for name, value in self.lost.items() if name != "without"}
        data = replace(data, sequence=self.sequence, **{"journal": kept, **changes})  # type: ignore[arg-type]
        return replace(claim, data=data)
