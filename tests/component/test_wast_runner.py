"""The runner of scripts: a command that is not met is a failure, and a refusal is told from one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

from perdure.component.engine import Engine
from perdure.component.types import ListType, OptionType, PrimType, ResultType, Some, ValueType
from support.wast.runner import Case, Script
from support.wast.values import Misfit, same, value

COMPONENT = """
(component
  (core module $M
    (func (export "inc") (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
    (func (export "trap") (unreachable)) (func (export "bad") (result i32) (i32.const 7)))
  (core instance $m (instantiate $M))
  (func (export "inc") (param "n" u32) (result u32) (canon lift (core func $m "inc")))
  (func (export "trap") (canon lift (core func $m "trap")))
  (func (export "bad") (result (result)) (canon lift (core func $m "bad"))))
"""


async def outcomes(engine: Engine, folder: Path, *commands: dict[str, Any]) -> list[Case]:
    (folder / "good.wasm").write_bytes(wat2wasm(COMPONENT))
    (folder / "later.wasm").write_bytes(wat2wasm("(component (core func (canon context.get i32 0)))"))
    (folder / "invalid.wasm").write_bytes(wat2wasm(COMPONENT)[:-3])
    numbered = [{"line": number, **command} for number, command in enumerate(commands, 1)]
    return [case async for case in Script(engine, folder).run(numbered)]


def invoke(field: str, *args: int) -> dict[str, Any]:
    return {"type": "invoke", "field": field, "args": [{"type": "u32", "value": str(n)} for n in args]}


def returns(n: int, *args: int) -> dict[str, Any]:
    return {"type": "assert_return", "action": invoke("inc", *args), "expected": [{"type": "u32", "value": str(n)}]}


GOOD = {"type": "module", "filename": "good.wasm"}
UNREACHABLE = "wasm `unreachable` instruction executed"


async def test_what_is_met_passes_and_what_is_not_fails(engine: Engine, tmp_path: Path) -> None:
    cases = await outcomes(
        engine,
        tmp_path,
        GOOD,
        returns(4, 3),
        returns(5, 3),
        {"type": "assert_return", "action": invoke("missing"), "expected": []},
        {"type": "assert_trap", "action": invoke("inc", 3), "text": UNREACHABLE},
        {"type": "assert_trap", "action": invoke("bad"), "text": UNREACHABLE},
        GOOD,
        {"type": "assert_trap", "action": invoke("trap"), "text": UNREACHABLE},
        {"type": "assert_trap", "action": invoke("trap"), "text": "cannot enter component instance"},
        GOOD,
        {"type": "assert_trap", "action": invoke("bad"), "text": "invalid variant discriminant"},
        GOOD,
        {"type": "assert_trap", "action": invoke("trap"), "text": "invalid variant discriminant"},
        {"type": "assert_invalid", "filename": "invalid.wasm", "text": "unexpected end"},
        {"type": "assert_invalid", "filename": "good.wasm", "text": "unexpected end"},
    )
    passed, failed = "passed", "failed"
    assert [case.status for case in cases] == [
        passed, passed, failed, failed, failed, failed,
        passed, passed, passed, passed, passed, passed, failed, passed, failed,
    ]  # fmt: skip


async def test_a_refusal_names_its_feature_for_every_command_that_depends_on_it(engine: Engine, tmp_path: Path) -> None:
    later = {"type": "module", "filename": "later.wasm"}
    cases = await outcomes(engine, tmp_path, later, returns(4, 3), GOOD, returns(4, 3))
    assert [(case.status, case.detail) for case in cases] == [
        ("refused", "context.get"),
        ("refused", "context.get"),
        ("passed", ""),
        ("passed", ""),
    ]


@pytest.mark.parametrize(
    ("t", "constant", "expected"),
    [
        (PrimType("f32"), {"type": "f32", "value": str(struct.unpack("<I", struct.pack("<f", 1.5))[0])}, 1.5),
        (ListType(PrimType("u8")), {"type": "list", "value": [{"type": "u8", "value": "7"}]}, b"\x07"),
        (OptionType(OptionType(PrimType("bool"))), {"type": "option", "value": {"type": "option"}}, Some(None)),
    ],
)
def test_constants_become_values(t: ValueType, constant: dict[str, Any], expected: object) -> None:
    assert same(expected, value(t, constant))
    with pytest.raises(Misfit):
        value(ResultType(None, None), constant)


def test_equality_is_strict() -> None:
    assert same(float("nan"), float("nan"))
    for a, b in ((0.0, -0.0), (1, True), (b"a", [97]), ([1], [1, 2]), ({"a": 1}, {"a": 2})):
        assert not same(a, b)
