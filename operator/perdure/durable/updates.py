"""Handing an instance's state from its former component to the present one (`perdure:durable/snapshot`).

The former guest's `save` gives bytes, a fresh guest's `load` takes them, and one commit makes that the instance's new
beginning. Whatever fails before the commit leaves the instance as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from perdure.component.plan import ExportedFunc
from perdure.component.types import Err, ListType, PrimType
from perdure.durable.components import Code
from perdure.durable.environment import EngineEnvironment
from perdure.durable.journal import Entry, Event, Kind
from perdure.durable.runner import Runner
from perdure.durable.writer import InstanceWriter
from perdure.errors import GuestTrapped, InvocationTimeout, Quarantined

INTERFACE = "perdure:durable/snapshot"
MAX_STATE = 16 << 20


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The instance on its new component."""

    writer: InstanceWriter
    runner: Runner


class StateHandover:
    """The hooks that one guest exports."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def save(self, deadline: float) -> bytes | str:
        """The state, or why there is none."""
        func = find_hook(self._runner.code, "save")
        if func is None:
            return f"its component does not export {INTERFACE}.save"
        try:
            state = await self._runner.aside(func, deadline=deadline)
        except (GuestTrapped, InvocationTimeout) as error:
            return f"save failed: {error.detail}"
        if not isinstance(state, bytes):
            return "save does not give a list<u8>"
        return state if len(state) <= MAX_STATE else f"save gave {len(state):,} bytes; {MAX_STATE:,} are allowed"

    async def load(self, state: bytes, deadline: float) -> str | None:
        """None, or why the state was not taken."""
        func = find_hook(self._runner.code, "load")
        if func is None:
            return f"the present component does not export {INTERFACE}.load"
        try:
            answer = await self._runner.aside(func, state, deadline=deadline)
        except (GuestTrapped, InvocationTimeout) as error:
            return f"load failed: {error.detail}"
        return f"load refused the state: {answer.value}" if isinstance(answer, Err) else None

    async def load_again(self, entry: Entry, deadline: float) -> None:
        """Replay of a handover. Raises `Quarantined`."""
        func = find_hook(self._runner.code, "load")
        if func is None or entry.state is None:
            raise Quarantined(f"journal entry {entry.sequence}: the component exports no {INTERFACE}.load")
        self._runner.recorder.replay(entry.events, f"journal entry {entry.sequence} (load)")
        try:
            await self._runner.again(func, entry.state, deadline=deadline)
        except GuestTrapped as error:
            raise Quarantined(f"journal entry {entry.sequence}: load failed on replay: {error.detail}") from error


def find_hook(code: Code, name: str) -> ExportedFunc | None:
    """`save` or `load`, whatever the interface's version, if its type is what it should be."""
    for func in code.functions.values():
        if func.interface.partition("@")[0] == INTERFACE and func.name == name:
            params = [kind for _, kind in func.type.params]
            return func if params == ([ListType(PrimType("u8"))] if name == "load" else []) else None
    return None


async def hand_over(
    name: str,
    former: Runner,
    present: Code,
    writer: InstanceWriter,
    environment: EngineEnvironment,
    deadline: float,
) -> HandedOver | str:
    """Move the instance to `present`; the new runner, or why it stays. Raises what a commit raises."""
    state = await StateHandover(former).save(deadline)
    if isinstance(state, str):
        return state
    runner = Runner(name, present, environment, writer)
    try:
        start: list[Event] | None = await runner.instantiate(None, deadline)
        refused = await StateHandover(runner).load(state, deadline)
        if refused is not None:
            runner.close()
            return refused
        writer.component, writer.start = present.digest, start
        await writer.begin_anew(
            Kind.MIGRATED,
            deadline,
            reason=f"migrated from {former.code.digest}",
            state=state,
            events=runner.recorder.take(),
        )
    except BaseException:
        runner.close()
        raise
    return HandedOver(writer, runner)
