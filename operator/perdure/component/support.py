"""Whether Perdure can run a component: every reason against it, not only the first."""

from __future__ import annotations

from dataclasses import dataclass

import wasmtime

from perdure.component.about import About
from perdure.component.binding import Binding
from perdure.component.coremodule import read_module
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.host import ImportResolver, RefusedFunction
from perdure.component.link import link
from perdure.component.validator import last_cause, refusal, validate
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


def support(about: About, data: bytes, engine: Engine, resolver: ImportResolver) -> Support:
    """Says yes only after the component has been validated, its code too, linked and bound. Nothing is compiled."""
    try:
        validate(data)
        refused_modules = _refused_modules(about, engine)
        found = _problem(data, resolver)
    except ComponentUnsupported as error:
        found, refused_modules = Reason(error.feature, error.detail), []
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
    reasons += refused_modules
    if not reasons and found is not None:
        reasons.append(found)
    return Support(tuple(reasons), tuple(refused))


def _problem(data: bytes, resolver: ImportResolver) -> Reason | None:
    """What linking and binding stop at. They stop at the first, which is mostly known already, in more words.

    Raises `ComponentError` for an invalid component."""
    try:
        plan = link(decode_component(data))
        for module in plan.modules:
            read_module(module)
        Binding(plan, resolver)
    except ComponentUnsupported as error:
        return Reason(error.feature, error.detail)
    return None


def _refused_modules(about: About, engine: Engine) -> list[Reason]:
    """The core modules that this engine does not take: threads, relaxed SIMD and the like are off.

    Raises `ComponentError` for one that is not valid."""
    reasons = []
    for number, module in enumerate(about.modules):
        try:
            wasmtime.Module.validate(engine.wasmtime, module.data)
        except wasmtime.WasmtimeError as error:
            said = refusal(last_cause(error))
            if not isinstance(said, ComponentUnsupported):
                raise said from error
            name = module.name or f"number {number}"
            reasons.append(Reason("core features", f"the core module {name} is refused: {last_cause(error)}"))
    return reasons
