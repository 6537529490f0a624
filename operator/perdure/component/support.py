"""Whether Perdure can run a component: every reason against it, not only the first."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

from perdure.component.about import About
from perdure.component.component import Component
from perdure.component.engine import Engine
from perdure.component.host import ImportResolver, RefusedFunction
from perdure.component.validator import last_cause
from perdure.component.worlds import Reason
from perdure.errors import ComponentError, ComponentUnsupported


@dataclass(frozen=True, slots=True)
class Support:
    """`reasons`: why it cannot be run; none: it can. `refused`: functions it imports that trap if they are called.
    `valid`: whether it is a component at all; if not, what was read of it means little."""

    reasons: tuple[Reason, ...]
    refused: tuple[str, ...]
    valid: bool = True

    @property
    def runs(self) -> bool:
        return not self.reasons


async def support(about: About, data: bytes, engine: Engine, resolver: ImportResolver) -> Support:
    """Says yes only after the component has been validated, linked, compiled and bound."""
    try:
        found = await _problem(data, engine, resolver)
    except ComponentError as error:
        return Support((*about.reasons, Reason("invalid", error.detail)), (), valid=False)
    reasons, refused = list(about.reasons), []
    for use in about.uses:
        path = f"{use.interface}.{use.name}" if use.interface else use.name
        if use.type is None:
            provided = resolver.resource(use.interface, use.name) is not None
        else:
            function = resolver.function(use.interface, use.name, use.type)
            provided = function is not None
            if isinstance(function, RefusedFunction):
                refused.append(path)
        if not provided:
            detail = f"the component imports {path}, which Perdure does not provide"
            reasons.append(Reason(f"{use.interface} {use.name}".strip(), detail))
    reasons += _refused_modules(about, engine)
    if not reasons and found is not None:
        reasons.append(found)
    return Support(tuple(reasons), tuple(refused))


async def _problem(data: bytes, engine: Engine, resolver: ImportResolver) -> Reason | None:
    """What loading and binding stop at. They stop at the first, which is mostly known already, in more words.

    Raises `ComponentError` for an invalid component."""
    try:
        component = await Component.load(engine, data)
        component.bind(resolver)
    except ComponentUnsupported as error:
        return Reason(error.feature, error.detail)
    return None


def _refused_modules(about: About, engine: Engine) -> list[Reason]:
    """The core modules that this engine does not take: threads, relaxed SIMD and the like are off."""
    reasons = []
    for number, module in enumerate(about.modules):
        try:
            wasmtime.Module.validate(engine.wasmtime, module.data)
        except wasmtime.WasmtimeError as error:
            name = module.name or f"number {number}"
            reasons.append(Reason("core features", f"the core module {name} is refused: {last_cause(error)}"))
    return reasons
