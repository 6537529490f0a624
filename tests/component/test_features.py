"""What is valid is run, or refused by name: never called malformed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import wasmtime
from wasmtime import wat2wasm
from wasmtime.component import Component as StockComponent

from fuzz.binary import component, core_module, extern, name, section, types, vec
from perdure.component.component import Component
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.link import link
from perdure.errors import ComponentError, ComponentUnsupported
from support.generated.ours import Host


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


def _binary(text: str) -> bytes:
    data = bytes(wat2wasm(text))
    StockComponent(wasmtime.Engine(), data)  # valid to wasmtime
    return data


def _passed_on(exported: str, imported: str, types: str = "") -> str:
    """One core module's export is another's import, with a memory behind it that must still be found."""
    return f"""(component
      (core module $a {types} {exported} (memory (export "m") 1))
      (core instance $a (instantiate $a))
      (core module $b {types} (import "a" "x" ({imported})) (import "a" "m" (memory 1)))
      (core instance (instantiate $b (with "a" (instance $a)))))"""


_FUNC = "(type $f (func))"


@pytest.mark.parametrize(
    "text",
    [
        _passed_on('(tag (export "x") (param i32))', "tag (param i32)"),
        _passed_on('(global (export "x") (ref null func) (ref.null func))', "global (ref null func)"),
        _passed_on('(global (export "x") (ref null $f) (ref.null $f))', "global (ref null $f)", _FUNC),
        _passed_on('(table (export "x") 1 (ref null $f))', "table 1 (ref null $f)", _FUNC),
        _passed_on('(table (export "x") i64 1 funcref)', "table i64 1 funcref"),
        _passed_on('(memory (export "x") i64 1)', "memory i64 1"),
        _passed_on('(global (export "x") v128 (v128.const i64x2 0 0))', "global v128"),
        "(component (core type (func (param (ref null extern)) (result (ref func)))))",
        '(component (core type (module (type (func)) (import "a" "b" (tag (type 0))) (export "c" (global (ref func))))))',
        "(component (core type $t (func)) (component (alias outer 1 $t (core type))))",
        '(component (import "f" (func async (param "a" u8))) (type (stream u8)) (type (future)))',
        '(component (import "a:b/c@1.2.3-rc.1+b" (instance)) (import "url=<https://a.b>" (func)))',
        '(component (core module $m) (export "m" (core module $m)) (component $c) (type $t u8) (export "t" (type $t)))',
        (
            '(component (component $c (core module $m) (export "m" (core module $m))) (instance $i (instantiate $c)) '
            '(alias export $i "m" (core module $m)) (core instance (instantiate $m)))'
        ),
    ],
)
async def test_what_is_harmless_runs(engine: Engine, text: str) -> None:
    loaded = await Component.load(engine, _binary(text))
    instance = await loaded.bind(Host({})).instantiate(None)
    instance.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(component (core type (struct (field i32))))", "garbage-collected"),
        ("(component (core rec (type (struct)) (type (array i8))))", "garbage-collected"),
        ("(component (core type (sub (func))))", "garbage-collected"),
        ('(component (import "m" (core module (import "a" "b" (func)))))', "core module"),
        ("(component (core func (canon backpressure.inc)))", "backpressure"),
        ("(component (core func (canon context.get i32 0)))", "context.get"),
        ("(component (core func (canon thread.yield)))", "thread.yield"),
        ('(component (import "f" (func $f async)) (core func (canon lower (func $f))))', "async"),
    ],
)  # fmt: skip
async def test_what_is_not_supported_is_named(engine: Engine, text: str, said: str) -> None:
    with pytest.raises(ComponentUnsupported, match=said):
        await Component.load(engine, _binary(text))


_FUNC_AS_INSTANCE = component(
    types(b"\x40\0\x01\0"),
    section(10, vec([extern("f") + b"\x01\0"])),
    section(5, vec([b"\x01" + vec([extern("f") + b"\x01\0"])])),
    section(6, vec([b"\x05\0\0" + name("f"), b"\x01\0\x01" + name("x")])),
)
_CORE_AS_INSTANCE = component(
    core_module(), section(2, vec([b"\0\0\0"])), section(6, vec([b"\x05\x01\0" + name("x"), b"\x01\0\0" + name("x")]))
)


_EXPORT_AS_CORE_INSTANCE = component(
    core_module(),
    section(2, vec([b"\0\0\0"])),
    section(6, vec([b"\0\x12\x01\0" + name("x"), b"\0\0\x01\x01" + name("x")])),
)


@pytest.mark.parametrize(
    "data",
    [_FUNC_AS_INSTANCE, _CORE_AS_INSTANCE, _EXPORT_AS_CORE_INSTANCE],
    ids=["a function", "a core export", "a core export as a core instance"],
)
def test_an_alias_as_another_sort_is_malformed(data: bytes) -> None:
    """Linking comes before wasmtime's validator: it must see for itself."""
    with pytest.raises(ComponentError, match="as (core )?instance"):
        link(decode_component(data))
