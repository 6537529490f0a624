"""Where the state of an instance is: the memories, mutable globals and tables of its core instances.

Made once per component, from the modules as `coremodule.expose` rewrites them. Everything is numbered in the order of
the link plan's steps, so one layout describes every instance of the component, in any process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from perdure.component.coremodule import REWRITING, CoreModule
from perdure.component.plan import CoreExport, LinkPlan
from perdure.component.scan import Hazards

_LAYOUT = 1


@dataclass(frozen=True, slots=True)
class StateLayout:
    """`references`: what holds references and could have changed, so that it must be compared before a capture;
    empty for nearly every component. `starts`: the start function of a step's core instance. `refusal`: why no
    instance can be captured, as (reason, words). `digest`: SHA-256 of all that a snapshot's numbering relies on."""

    memories: tuple[CoreExport, ...]
    globals: tuple[CoreExport, ...]
    references: tuple[CoreExport, ...]
    starts: dict[int, CoreExport]
    refusal: tuple[str, str] | None
    digest: bytes


def state_layout(plan: LinkPlan, modules: list[CoreModule], found: Hazards) -> StateLayout:
    """`modules` are those of the plan, in its order."""

    def every(kind: str, indices: Callable[[CoreModule], tuple[int, ...]]) -> tuple[CoreExport, ...]:
        return tuple(
            CoreExport(step.instance, modules[step.module].name(kind, index), kind)  # type: ignore[arg-type]
            for step in plan.steps
            for index in indices(modules[step.module])
        )

    memories = every("memory", lambda module: module.memories)
    globals_ = every("global", lambda module: module.globals)
    references = every("global", lambda module: module.reference_globals)
    if found.writes_tables:
        references += every("table", lambda module: module.tables)
    starts = {
        step.instance: CoreExport(step.instance, module.name("func", module.start), "func")
        for step in plan.steps
        if (module := modules[step.module]).start is not None
    }
    resources = [f"{one.interface} {one.name} {one.component_instance}" for one in plan.resources]
    parts = [
        f"layout {_LAYOUT} rewriting {REWRITING}",
        *(f"{one.kind} {one.instance} {one.name}" for one in (*memories, *globals_)),
        *(f"resource {one}" for one in resources),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).digest()
    return StateLayout(memories, globals_, references, starts, found.refusal, digest)
