"""One pair of specialised functions per function type: what runs at each crossing between host and guest.

`CanonicalABI.md`, "Lifting and Lowering Values" (lift_flat_values, lower_flat_values): flat, or as one tuple in memory
beyond `layout.MAX_FLAT_PARAMS` and `MAX_FLAT_RESULTS`; and the flat side of "canon lift" and "canon lower".

Core values travel in arrays of `wasmtime_val_t`; `_VALUE` knows their layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perdure.component.canonical.emitter import Emitter
from perdure.component.canonical.layout import (
    MAX_FLAT_PARAMS,
    core_signature,
    flat_params,
    flat_result,
    has_borrows,
    has_handles,
    has_sequences,
    params_tuple,
    size_and_alignment,
)
from perdure.component.canonical.lift import lift_flat, load
from perdure.component.canonical.lower import lower_flat, store
from perdure.component.capi import VAL_OF, VAL_SIZE, VALUE_KIND
from perdure.component.types import FuncType, ValueType

_LETTER = {"i32": "I", "i64": "Q", "f32": "f", "f64": "d"}
_WIDTH = {"i32": 4, "i64": 8, "f32": 4, "f64": 8}


def _value_form(core: str) -> str:
    """struct format that reads one `wasmtime_val_t` of a known kind."""
    return f"{VAL_OF}x{_LETTER[core]}{VAL_SIZE - VAL_OF - _WIDTH[core]}x"


def _emit_values(e: Emitter, base: str, cores: tuple[str, ...], values: list[str]) -> None:
    """Write `wasmtime_val_t`s, kinds included, in one go."""
    form = "".join(f"B{VAL_OF - 1}x{_LETTER[core]}{VAL_SIZE - VAL_OF - _WIDTH[core]}x" for core in cores)
    pairs = ", ".join(f"{VALUE_KIND[core]}, {value}" for core, value in zip(cores, values, strict=True))
    e.emit(f"{e.writer(form)}(RAW, {base}, {pairs})")


def _start_lift(e: Emitter, kinds: list[ValueType]) -> None:
    """What the lists and strings of one lift may take is counted anew."""
    if any(map(has_sequences, kinds)):
        e.emit("cx.mem.left = cx.mem.allowance")


def _start_lower(e: Emitter, kinds: list[ValueType], *, allocates: bool = False) -> None:
    """What is lowered once may be lowered again (`context.Unfinished`), so each step is recorded anew."""
    if allocates or any(has_sequences(kind) or has_handles(kind) for kind in kinds):
        e.emit("cx.record.clear()")


@dataclass(frozen=True, slots=True)
class ImportCode:
    """For `canon lower`. `lift_params(cx, args)` → (values, return pointer);
    `lower_result(cx, results, return_pointer, value)`. `lends`: the parameters have borrowed handles."""

    lift_params: Callable[..., tuple[tuple[object, ...], int]]
    lower_result: Callable[..., None]
    lends: bool
    core: tuple[tuple[str, ...], tuple[str, ...]]
    source: str


@dataclass(frozen=True, slots=True)
class ExportCode:
    """For `canon lift` of a core function. `lower_params(cx, args, values)`; `lift_result(cx, results)`."""

    lower_params: Callable[..., None]
    lift_result: Callable[..., object]
    core: tuple[tuple[str, ...], tuple[str, ...]]
    source: str


def import_code(t: FuncType) -> ImportCode:
    """Code for calls out of the guest ("canon lower"): parameters are lifted, the result is lowered to where the caller
    points ("Lifting and Lowering Values": out_param)."""
    params, results = core = core_signature(t, lowered=True)
    e = Emitter()
    names = [e.name("c") for _ in params]
    if names:
        form = "".join(_value_form(c) for c in params)
        e.emit(f"{', '.join(names)}, = {e.reader(form)}(RAW, args)")
    has_pointer = len(flat_result(t)) > 1
    kinds = [kind for _, kind in t.params]
    _start_lift(e, kinds)
    if len(flat_params(t)) > MAX_FLAT_PARAMS:
        whole = params_tuple(t)
        size, alignment = size_and_alignment(whole)
        values = e.let(load(e, whole, f"cx.mem.at({names[0]}, {size}, {alignment})"))
    else:
        flats = iter(names)
        lifted = [e.let(lift_flat(e, kind, flats)) for _, kind in t.params]
        values = "(" + "".join(f"{v}, " for v in lifted) + ")"
    e.emit(f"return {values}, {names[-1] if has_pointer else 0}")
    lift_params, lift_source = e.function("lift_params", "cx, args")

    e = Emitter()
    if t.result is not None:
        _start_lower(e, [t.result])
        if has_pointer:
            size, alignment = size_and_alignment(t.result)
            address = e.let(f"cx.mem.at(pointer, {size}, {alignment})", "a")
            store(e, t.result, "value", address)
        else:
            _emit_values(e, "results", results, lower_flat(e, t.result, "value"))
    lower_result, lower_source = e.function("lower_result", "cx, results, pointer, value")
    source = lift_source + "\n\n" + lower_source
    return ImportCode(lift_params, lower_result, any(map(has_borrows, kinds)), core, source)  # type: ignore[arg-type]


def export_code(t: FuncType) -> ExportCode:
    """Code for calls into the guest ("canon lift"): parameters are lowered, into an allocation of the callee where they
    are too many; the result is lifted."""
    params, results = core = core_signature(t, lowered=False)
    e = Emitter()
    names = [e.name("p") for _ in t.params]
    if names:
        e.emit(f"{', '.join(names)}, = values")
    else:
        e.emit("() = values")
    spilled = len(flat_params(t)) > MAX_FLAT_PARAMS
    _start_lower(e, [kind for _, kind in t.params], allocates=spilled)
    if spilled:
        whole = params_tuple(t)
        size, alignment = size_and_alignment(whole)
        pointer = e.let(f"cx.realloc({alignment}, {size})", "p")
        address = e.let(f"cx.mem.at({pointer}, {size}, {alignment})", "a")
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
            e.emit(f"return {load(e, t.result, f'cx.mem.at({raw}, {size}, {alignment})')}")
        else:
            e.emit(f"return {lift_flat(e, t.result, iter([raw]))}")
    lift_result, lift_source = e.function("lift_result", "cx, results")
    return ExportCode(lower_params, lift_result, core, lower_source + "\n\n" + lift_source)  # type: ignore[arg-type]
