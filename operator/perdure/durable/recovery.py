"""From what a claim gave to a running guest: which component, snapshot or fresh memory, then the journal's calls."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from perdure.component.snapshot import Snapshot
from perdure.durable.abandoning import given_up
from perdure.durable.components import Code, ComponentLibrary
from perdure.durable.effects import Outcome, decode_outcomes
from perdure.durable.environment import EngineEnvironment
from perdure.durable.faultpoint import Point, reach
from perdure.durable.foreign import apply_entry
from perdure.durable.gaps import broken_row, lost_beginning
from perdure.durable.journal import Entry, Kind, decode_entry
from perdure.durable.records import Claim, InstanceData
from perdure.durable.replay import Recorded, ReplayPlan, component_of, plan_replay, recorded, require_component
from perdure.durable.runner import Runner
from perdure.durable.settings import MemoryMode, UpdatePolicy
from perdure.durable.snapshots import decode_part
from perdure.durable.updates import StateHandover, hand_over
from perdure.durable.writer import InstanceWriter
from perdure.errors import Quarantined


@dataclass(frozen=True, slots=True)
class Recovered:
    """`snapshot`: what memory was restored from. `unfinished`: an invocation to go on with. `keys`: idempotency keys
    that the journal names. `replay_s`: seconds that the journal's calls took."""

    writer: InstanceWriter
    runner: Runner
    snapshot: Snapshot | None
    unfinished: Recorded | None
    keys: list[str]
    replay_s: float


async def recover(
    name: str, claim: Claim, library: ComponentLibrary, environment: EngineEnvironment, deadline: float
) -> Recovered:
    """Raises `Quarantined`, `ReplayDiverged`, `ProviderUnavailable`, `Fenced`, `InvocationTimeout`."""
    data = claim.data
    entries = decode_entries(data)
    stored = component_of(entries) or _snapshot_component(data)
    if stored is None or stored == library.present.digest:
        return await _rebuild(name, claim, entries, library.present, environment, deadline)
    restarts = environment.update is UpdatePolicy.RESTART
    former = await library.find(stored) if data.open or not restarts else None
    if former is None and restarts:
        return await _restart(name, claim, entries, library.present, environment, deadline)
    if former is None:
        raise Quarantined(
            f"the instance runs on component {stored}, which is not available any more, and this host runs "
            f"{library.present.digest} (update: {environment.update.value}). Run the former component, or reset the "
            "instance",
            lasting=False,
        )
    recovered = await _rebuild(name, claim, entries, former, environment, deadline)
    # An invocation ends on the code it began on; a later opening updates the instance.
    if environment.update is not UpdatePolicy.MIGRATE or recovered.unfinished is not None:
        environment.hooks.updated("pinned")
        return recovered
    handover = await hand_over(name, recovered.runner, library.present, recovered.writer, environment, deadline)
    if isinstance(handover, str):
        environment.log(name, "perdure", f"the instance stays on {stored}: {handover}".encode())
        environment.hooks.updated("failed")
        return await _rebuild_again(name, claim, entries, former, environment, deadline, recovered)
    environment.hooks.updated("migrated")
    recovered.runner.close()
    return Recovered(handover.writer, handover.runner, None, None, recovered.keys, 0.0)


def decode_entries(data: InstanceData) -> list[Entry]:
    """Raises `Quarantined` naming the first bad entry."""
    try:
        return [decode_entry(record.entry, data.first + at, data.blobs) for at, record in enumerate(data.journal)]
    except Quarantined as error:
        broken = broken_row(data)
        words = broken[1] if broken is not None else lost_beginning(data, None) if data.first < 1 else None
        if words is None:
            raise
        raise Quarantined(words) from error


async def settle_foreign(
    entries: list[Entry], claim: Claim, writer: InstanceWriter, environment: EngineEnvironment
) -> dict[int, dict[str, list[Outcome]]]:
    """Apply effects for other stores that were not confirmed; outcomes by sequence."""
    by_sequence = {entry.sequence: entry for entry in entries}
    return {
        sequence: await writer.apply_foreign(by_sequence[sequence])
        for sequence in claim.data.unapplied
        if sequence in by_sequence
    }


async def _rebuild(
    name: str,
    claim: Claim,
    entries: list[Entry],
    code: Code,
    environment: EngineEnvironment,
    deadline: float,
) -> Recovered:
    data = claim.data
    if data.snapshot is None or entries:
        require_component(entries, code.digest)
    writer = InstanceWriter(name, code.digest, environment, claim)
    applied = await settle_foreign(entries, claim, writer, environment)
    plan = plan_replay(entries)
    anew = environment.memory is MemoryMode.INVOCATION and _begun_anew(plan)
    if anew:
        plan = replace(plan, start=plan.unfinished[0].start if plan.unfinished else None, calls=[])
    elif (lost := lost_beginning(data, entries[0] if entries else None)) is not None:
        raise Quarantined(lost)
    writer.growth.entries, writer.growth.guest_us = len(entries), plan.guest_us
    writer.growth.bytes = sum(len(record.entry) for record in data.journal) + sum(map(len, data.blobs.values()))
    runner = Runner(name, code, environment, writer)
    try:
        snapshot = None
        if plan.unfinished or not anew:
            snapshot = await _memory(runner, writer, data, plan, deadline, anew=anew)
        reach(Point.RESTORED)
        begun = time.perf_counter()
        for call in plan.calls:
            await runner.replay(call, deadline)
        took = time.perf_counter() - begun
        unfinished = None
        if plan.unfinished:
            outcome = await _gate_outcome(plan.unfinished[-1], claim, applied, writer, environment)
            unfinished = recorded(plan.unfinished, outcome)
    except BaseException:
        runner.close()
        raise
    keys = [entry.key for entry in entries if entry.key is not None and entry.kind is Kind.CALL]
    return Recovered(writer, runner, snapshot, unfinished, keys, took)


async def _rebuild_again(
    name: str,
    claim: Claim,
    entries: list[Entry],
    code: Code,
    environment: EngineEnvironment,
    deadline: float,
    former: Recovered,
) -> Recovered:
    """After a handover that failed: the guest was asked for its state, so it is not what the journal gives."""
    former.runner.close()
    settled = replace(claim, data=replace(claim.data, unapplied=[]))
    return await _rebuild(name, settled, entries, code, environment, deadline)


def _begun_anew(plan: ReplayPlan) -> bool:
    """Whether nothing goes on with the memory of earlier calls: not even a call that began when memory was kept."""
    return not plan.unfinished or plan.unfinished[0].start is not None


async def _memory(
    runner: Runner, writer: InstanceWriter, data: InstanceData, plan: ReplayPlan, deadline: float, *, anew: bool
) -> Snapshot | None:
    if data.snapshot is not None and not anew:
        return await runner.restore(data.snapshot.parts)
    writer.start = await runner.instantiate(plan.start, deadline)
    if plan.migrated is not None and not anew:
        await StateHandover(runner).load_again(plan.migrated, deadline)
    return None


async def _gate_outcome(
    last: Entry,
    claim: Claim,
    applied: dict[int, dict[str, list[Outcome]]],
    writer: InstanceWriter,
    environment: EngineEnvironment,
) -> Outcome | None:
    """What the atomic effect at the journal's end gave, which no entry holds yet."""
    if last.gate is None:
        return None
    if last.gate.provider == environment.catalog.home:
        return decode_outcomes(claim.data.journal[-1].outcomes)[-1]
    # Confirmed or not, the foreign store keeps the outcomes of the highest sequence.
    found = applied.get(last.sequence) or await apply_entry(last, writer.origin, writer.name, environment.stores)
    return found[last.gate.provider][-1]


async def _restart(
    name: str, claim: Claim, entries: list[Entry], code: Code, environment: EngineEnvironment, deadline: float
) -> Recovered:
    """Fresh memory on the present component; buckets, results and inbox stay."""
    writer = InstanceWriter(name, code.digest, environment, claim)
    await settle_foreign(entries, claim, writer, environment)
    stored = component_of(entries) or _snapshot_component(claim.data)
    reason = f"the component {stored} was replaced (update: Restart)"
    result = await given_up(name, entries, reason, environment)
    await writer.begin_anew(Kind.FRESH, deadline, reason=reason, result=result)
    environment.hooks.updated("restarted")
    runner = Runner(name, code, environment, writer)
    try:
        writer.start = await runner.instantiate(None, deadline)
    except BaseException:
        runner.close()
        raise
    keys = [entry.key for entry in entries if entry.key is not None]
    return Recovered(writer, runner, None, None, keys, 0.0)


def _snapshot_component(data: InstanceData) -> str | None:
    return decode_part(data.snapshot.parts[-1]).component if data.snapshot is not None else None
