"""One pair of specialised functions per function type: what runs at each crossing between host and guest.

`CanonicalABI.md`, "Lifting and Lowering Values" (lift_flat_values, lower_flat_values): flat, or as one tuple in memory
beyond `layout.MAX_FLAT_PARAMS` and `MAX_FLAT_RESULTS`; and the flat side of "canon lift" and "canon lower".

Exports' core values travel in arrays of `wasmtime_val_t`, those of imports in arrays of `wasmtime_val_raw_t`, as a
trampoline passes them (`trampolines.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from perdure.component.canonical.emitter import Emitter
from perdure.component.canonical.layout import (
    MAX_FLAT_PARAMS,
    core_signature,
    ends_in_bytes,
    flat_params,
    flat_result,
    has_borrows,
    has_sequences,
    params_tuple,
    size_and_alignment,
)
from perdure.component.canonical.lift import lift_flat, load
from perdure.component.canonical.lower import Lowering, Placement, lower_flat, store
from perdure.component.capi import RAW_SIZE, VAL_OF, VAL_SIZE, VALUE_KIND
from perdure.component.types import FuncType, ValueType

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
class ImportCode:
    """For `canon lower`. `lift_params(cx, values)` → (arguments, return pointer);
    `lower_result(cx, values, return_pointer, value)`, which writes the outcome 0, and the flat result, to `values` and
    gives None, or gives what is left to do. `lends`: the parameters have borrowed handles."""

    lift_params: Callable[..., tuple[tuple[object, ...], int]]
    lower_result: Callable[..., Lowering | Placement | None]
    lends: bool
    core: tuple[tuple[str, ...], tuple[str, ...]]
    source: str


@dataclass(frozen=True, slots=True)
class ExportCode:
    """For `canon lift` of a core function. `lower_params(cx, args, values)`, a `Lowering` where it needs guest memory;
    `lift_result(cx, results)`."""

    lower_params: Callable[..., Lowering | None]
    lift_result: Callable[..., object]
    core: tuple[tuple[str, ...], tuple[str, ...]]
    source: str


def import_code(t: FuncType, *, placing: bool = True) -> ImportCode:
    """Code for calls out of the guest ("canon lower"): parameters are lifted, the result is lowered to where the caller
    points ("Lifting and Lowering Values": out_param). `placing`: the result may be left as a `Placement`."""
    params, results = core = core_signature(t, lowered=True)
    e = Emitter()
    names = [e.name("c") for _ in params]
    if names:
        form = "".join(map(_raw_form, params))
        e.emit(f"{', '.join(names)}, = {e.reader(form)}(RAW, values)")
    has_pointer = len(flat_result(t)) > 1
    kinds = [kind for _, kind in t.params]
    _start_lift(e, kinds)
    if len(flat_params(t)) > MAX_FLAT_PARAMS:
        whole = params_tuple(t)
        size, alignment = size_and_alignment(whole)
        arguments = e.let(load(e, whole, f"mem.at({names[0]}, {size}, {alignment})"))
    else:
        flats = iter(names)
        lifted = [e.let(lift_flat(e, kind, flats)) for _, kind in t.params]
        arguments = "(" + "".join(f"{v}, " for v in lifted) + ")"
    e.emit(f"return {arguments}, {names[-1] if has_pointer else 0}")
    lift_params, lift_source = e.function("lift_params", "cx, values")

    allocates = allocates_result(t)
    placing = placing and t.result is not None and ends_in_bytes(t.result)
    e = Emitter(placing=placing)
    outcome = ["0"]
    if t.result is not None and has_pointer:
        size, alignment = size_and_alignment(t.result)
        address = e.let(f"mem.at(pointer, {size}, {alignment})", "a")
        store(e, t.result, "value", address)
    elif t.result is not None:
        outcome += lower_flat(e, t.result, "value")
    if placing or not allocates:
        form = "".join(map(_raw_form, ("i32", *results)))
        e.emit(f"{e.writer(form)}(RAW, values, {', '.join(outcome)})")
    lower_result, lower_source = e.function("lower_result", "cx, values, pointer, value")
    source = lift_source + "\n\n" + lower_source
    lends = any(map(has_borrows, kinds))
    return ImportCode(lift_params, lower_result, lends, core, source)  # type: ignore[arg-type]


def allocates_result(t: FuncType) -> bool:
    """Whether lowering the result of an import needs guest memory."""
    return t.result is not None and has_sequences(t.result)


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
