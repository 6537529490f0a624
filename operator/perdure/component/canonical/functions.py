"""One pair of specialised functions per function type: what runs at each crossing between host and guest.

`CanonicalABI.md`, "Lifting and Lowering Values" (lift_flat_values, lower_flat_values): flat, or as one tuple in memory
beyond `layout.MAX_FLAT_PARAMS` and `MAX_FLAT_RESULTS`; and the flat side of "canon lift" and "canon lower".

Exports' core values travel in arrays of `wasmtime_val_t`, those of imports in arrays of `wasmtime_val_raw_t`, as a
trampoline passes them (`trampolines.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from perdure.component.canonical.emitter import Emitter
from perdure.component.canonical.layout import (
    MAX_FLAT_PARAMS,
    core_signature,
    ends_in_bytes,
    flat_params,
    flat_result,
    has_borrows,
    has_handles,
    has_sequences,
    params_tuple,
    size_and_alignment,
)
from perdure.component.canonical.lift import lift_flat, load
from perdure.component.canonical.lower import MISFIT, Lowering, Placement, lower_flat, store
from perdure.component.capi import RAW_SIZE, VAL_OF, VAL_SIZE, VALUE_KIND
from perdure.component.types import FuncType, ValueType
from perdure.errors import ResultMismatch

if TYPE_CHECKING:
    from perdure.component.crossing import Waiting
    from perdure.component.host import HostFunction
    from perdure.component.instance import Instance

_LETTER = {"i32": "I", "i64": "Q", "f32": "f", "f64": "d"}
_WIDTH = {"i32": 4, "i64": 8, "f32": 4, "f64": 8}


def _value_form(core: str) -> str:
    """struct format that reads one `wasmtime_val_t` of a known kind."""
    return f"{VAL_OF}x{_LETTER[core]}{VAL_SIZE - VAL_OF - _WIDTH[core]}x"


def _raw_form(core: str) -> str:
    """struct format that reads or writes one `wasmtime_val_raw_t`."""
    return f"{_LETTER[core]}{RAW_SIZE - _WIDTH[core]}x"


def _emit_values(e: Emitter, base: str, cores: tuple[str, ...], values: list[str]) -> None:
    """Write `wasmtime_val_t`s, kinds included, in one go."""
    form = "".join(f"B{VAL_OF - 1}x{_LETTER[core]}{VAL_SIZE - VAL_OF - _WIDTH[core]}x" for core in cores)
    pairs = ", ".join(f"{VALUE_KIND[core]}, {value}" for core, value in zip(cores, values, strict=True))
    e.emit(f"{e.writer(form)}(RAW, {base}, {pairs})")


def _start_lift(e: Emitter, kinds: list[ValueType]) -> None:
    """What the lists and strings of one lift may take is counted anew."""
    if any(map(has_sequences, kinds)):
        e.emit("mem.left = mem.allowance")


@dataclass(frozen=True, slots=True)
class HostCode:
    """For `canon lower` of a host function. `begin(instance, values)` lifts the arguments, calls the function and
    lowers its result; it does as `imports.CoreImport.begin`. Where a coroutine waits, `lower_result` does the rest."""

    begin: Callable[[Instance, int], Lowering | Placement | Waiting | None]
    source: str


@dataclass(frozen=True, slots=True)
class ComponentCode:
    """For `canon lower` of a component's function. `lift_params(cx, values)` → (arguments, return pointer);
    `lower_result(cx, values, return_pointer, value)`, which writes the outcome 0, and the flat result, to `values` and
    gives None, or gives what is left to do."""

    lift_params: Callable[..., tuple[tuple[object, ...], int]]
    lower_result: Callable[..., Lowering | None]
    core: tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ExportCode:
    """For `canon lift` of a core function. `lower_params(cx, args, values)`, a `Lowering` where it needs guest memory;
    `lift_result(cx, results)`."""

    lower_params: Callable[..., Lowering | None]
    lift_result: Callable[..., object]
    core: tuple[tuple[str, ...], tuple[str, ...]]
    source: str


def host_code(t: FuncType, path: str, canon: int = 0, host: HostFunction | None = None) -> HostCode:
    """Code for calls of the host function `host` by the canonical function `canon` ("canon lower"): one function from
    the guest's arguments to its result, since each step of its own would cost as much as what it does. `path`: what
    the function is called where it gives something else than its type says."""
    named = {"MISFIT": MISFIT, "misfit": partial(ResultMismatch, path)}
    e = Emitter(placing=_places(t))
    e.namespace |= named
    _lower_host_result(e, t, "pointer")
    lower_result, lower_source = e.function("lower_result", "cx, values, pointer, value")

    e = Emitter(placing=_places(t))
    e.namespace |= named | {"canon": canon, "host": host, "lower_result": lower_result}
    e.emit("cx = instance.contexts[canon] or instance.lowered(canon)")
    arguments, pointer = _lift_params(e, t)
    e.emit(f"value = host({', '.join(['instance.host_context', *arguments])})")
    with e.block("if type(value) is CoroutineType:"):
        e.emit(f"return value, lower_result, cx, {pointer}")
    if allocates_result(t) and not e.placing:
        e.emit(f"return lower_result(cx, values, {pointer}, value)")
    else:
        _lower_host_result(e, t, pointer)
    begin, source = e.function("begin", "instance, values")
    return HostCode(begin, source + "\n\n" + lower_source)  # type: ignore[arg-type]


def component_code(t: FuncType) -> ComponentCode:
    """Code for the caller's side of a call from one component into another ("canon lower")."""
    e = Emitter()
    arguments, pointer = _lift_params(e, t)
    e.emit(f"return ({''.join(f'{one}, ' for one in arguments)}), {pointer}")
    lift_params, _ = e.function("lift_params", "cx, values")
    e = Emitter()
    _lower_result(e, t, "pointer")
    lower_result, _ = e.function("lower_result", "cx, values, pointer, value")
    return ComponentCode(lift_params, lower_result, core_signature(t, lowered=True))  # type: ignore[arg-type]


def _lift_params(e: Emitter, t: FuncType) -> tuple[list[str], str]:
    """Expressions of the arguments, and of the pointer to where the result goes ("Lifting and Lowering Values":
    out_param) or 0."""
    names = [e.name("c") for _ in core_signature(t, lowered=True)[0]]
    if names:
        form = "".join(map(_raw_form, core_signature(t, lowered=True)[0]))
        e.emit(f"{', '.join(names)}, = {e.reader(form)}(RAW, values)")
    pointer = names[-1] if len(flat_result(t)) > 1 else "0"
    _start_lift(e, [kind for _, kind in t.params])
    if len(flat_params(t)) > MAX_FLAT_PARAMS:
        whole = params_tuple(t)
        size, alignment = size_and_alignment(whole)
        return ["*" + e.let(load(e, whole, f"mem.at({names[0]}, {size}, {alignment})"))], pointer
    flats = iter(names)
    return [e.let(lift_flat(e, kind, flats)) for _, kind in t.params], pointer


def _lower_host_result(e: Emitter, t: FuncType, pointer: str) -> None:
    """Lower `value`, which a host function gave: until now it has had the handles that are lent to it."""
    if any(has_borrows(kind) for _, kind in t.params):
        e.emit("cx.end_call()")
    if t.result is None:
        _lower_result(e, t, pointer)
        return
    with e.block("try:"):
        _lower_result(e, t, pointer)
    with e.block("except MISFIT as error:"):
        e.emit("raise misfit(type(error).__name__) from error")


def _lower_result(e: Emitter, t: FuncType, pointer: str) -> None:
    """Lower `value`."""
    outcome = ["0"]
    if t.result is not None and len(flat_result(t)) > 1:
        size, alignment = size_and_alignment(t.result)
        address = e.let(f"mem.at({pointer}, {size}, {alignment})", "a")
        store(e, t.result, "value", address)
    elif t.result is not None:
        outcome += lower_flat(e, t.result, "value")
    if e.placing or not allocates_result(t):
        form = "".join(map(_raw_form, ("i32", *core_signature(t, lowered=True)[1])))
        e.emit(f"{e.writer(form)}(RAW, values, {', '.join(outcome)})")


def _places(t: FuncType) -> bool:
    """Whether the result may be left as a `Placement`."""
    return t.result is not None and ends_in_bytes(t.result)


def allocates_result(t: FuncType) -> bool:
    """Whether lowering the result of an import needs guest memory."""
    return t.result is not None and has_sequences(t.result)


def export_code(t: FuncType) -> ExportCode:
    """Code for calls into the guest ("canon lift"): parameters are lowered, into an allocation of the callee where they
    are too many; the result is lifted."""
    params, results = core = core_signature(t, lowered=False)
    e = Emitter()
    if any(has_handles(kind) for _, kind in t.params):
        # First of all: what does not fit may be how many there are.
        e.emit("cx.begin_lowering()")
    names = [e.name("p") for _ in t.params]
    if names:
        e.emit(f"{', '.join(names)}, = values")
    else:
        e.emit("() = values")
    spilled = len(flat_params(t)) > MAX_FLAT_PARAMS
    if spilled:
        whole = params_tuple(t)
        size, alignment = size_and_alignment(whole)
        pointer = e.let(f"yield 0, 0, {alignment}, {size}", "p")
        address = e.let(f"mem.at({pointer}, {size}, {alignment})", "a")
        store(e, whole, "values", address)
        cores = [pointer]
    else:
        cores = [core for name, (_, kind) in zip(names, t.params, strict=True) for core in lower_flat(e, kind, name)]
    if cores:
        _emit_values(e, "args", params, cores)
    lower_params, lower_source = e.function("lower_params", "cx, args, values")

    e = Emitter()
    if t.result is not None:
        _start_lift(e, [t.result])
        raw = e.let(f"{e.reader(_value_form(results[0]))}(RAW, results)[0]", "c")
        if len(flat_result(t)) > 1:
            size, alignment = size_and_alignment(t.result)
            e.emit(f"return {load(e, t.result, f'mem.at({raw}, {size}, {alignment})')}")
        else:
            e.emit(f"return {lift_flat(e, t.result, iter([raw]))}")
    lift_result, lift_source = e.function("lift_result", "cx, results")
    source = lower_source + "\n\n" + lift_source
    return ExportCode(lower_params, lift_result, core, source)  # type: ignore[arg-type]
