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


def _in_groups(last: str = "two") -> bytes:
    """Imports of one module in groups: with a description each, and with one for all. `f` adds all of them up."""
    definer = core_module(
        section(1, vec([b"\x60\0\1\x7f"])),
        section(3, vec([b"\0", b"\0"])),
        section(5, vec([b"\0\1"])),
        section(6, vec([b"\x7f\0\x41\1\x0b"])),
        section(7, vec([name("") + b"\2\0", name("g") + b"\3\0", name("one") + b"\0\0", name("two") + b"\0\1"])),
        section(10, vec([b"\4\0\x41\x0a\x0b", b"\5\0\x41\xe4\0\x0b"])),
    )
    each = name("a") + name("") + b"\x7f" + vec([name("") + b"\2\0\1", name("g") + b"\3\x7f\0"])
    alike = name("a") + name("") + b"\x7e\0\0" + vec([name("one"), name(last)])
    body = b"\0\x10\0\x10\1\x6a\x23\0\x6a\x3f\0\x6a\x0b"  # one() + two() + g + memory.size
    user = core_module(
        section(1, vec([b"\x60\0\1\x7f"])),
        section(2, vec([each, alike])),
        section(3, vec([b"\0"])),
        section(7, vec([name("f") + b"\0\2"])),
        section(10, vec([bytes([len(body)]) + body])),
    )
    return component(
        definer,
        user,
        section(2, vec([b"\0\0\0", b"\0\1" + vec([name("a") + b"\x12\0"])])),
        section(6, vec([b"\0\0\1\1" + name("f")])),
        types(b"\x40\0\0\x79"),
        section(8, vec([b"\0\0\0\0\0"])),
        section(11, vec([extern("f") + b"\1\0\0"])),
    )


async def test_imports_in_groups_are_those_written_singly(engine: Engine) -> None:
    loaded = await Component.load(engine, _in_groups())
    instance = await loaded.bind(Host({})).instantiate(None)
    assert await instance.call(loaded.exports[0], []) == 100 + 10 + 1 + 1
    instance.close()
    with pytest.raises(ComponentError, match="an item named `absent`"):
        await Component.load(engine, _in_groups("absent"))


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
        ('(component (import "f" (func $f (param "x" (stream u8)))) (core func (canon lower (func $f))))', "stream<T>"),
        ('(component (import "f" (func $f (param "x" (future u8)))) (core func (canon lower (func $f))))', "future<T>"),
    ],
)  # fmt: skip
async def test_what_is_not_supported_is_named(engine: Engine, text: str, said: str) -> None:
    with pytest.raises(ComponentUnsupported, match=said):
        await Component.load(engine, _binary(text))


_ASYNC_LIFT = """(component
  (core module $m (func (export "f") (result i32) unreachable)) (core instance $i (instantiate $m))
  (func (export "f") async (canon lift (core func $i "f") async)))"""
_FUNC_IMPORT = (types(b"\x40\0\x01\0"), section(10, vec([extern("f") + b"\x01\0"])))


def _wat(text: str) -> bytes:
    return bytes(wat2wasm(text))


def _canon(*data: bytes) -> bytes:
    return component(*data[:-1], section(8, vec([data[-1]])))


@pytest.mark.parametrize(
    ("data", "feature"),
    [
        # What the validator knows, and has switched off.
        (_wat("(component (type error-context))"), "error-context"),
        (_wat("(component (core func (canon error-context.drop)))"), "error-context"),
        (_wat("(component (type (map string u8)))"), "map<K, V>"),
        (_wat("(component (type (list u8 4)))"), "fixed-length lists"),
        (_wat(_ASYNC_LIFT), "async functions"),
        (_wat("(component (core func (canon subtask.cancel async)))"), "async functions"),
        (_wat("(component (core func (canon thread.index)))"), "threads"),
        (_wat("(component (core func (canon thread.available_parallelism)))"), "threads"),
        (_wat('(component (import "v" (value string)))'), "values"),
        (_wat('(component (import "f" (func $f)) (start $f))'), "component start"),
        (component(section(12, b"\0")), "values"),
        (_wat('(component (import "f" (func $f)) (core type $t (func)) (core func (canon lower (func $f) gc (core-type $t))))'), "GC types"),
        (_wat('(component (import "a" (implements "x:y/z") (instance)))'), "implements"),
        (_wat("(component (type (resource (rep i64))))"), "64-bit memories"),
        (_wat("(component (core module (memory 1 (pagesize 1))))"), "custom page sizes"),
        (_wat("(component (core module (type $f (func)) (type (cont $f))))"), "stack switching"),
        (_canon(b"\x2e\0\0"), "forwarding of streams and futures"),
        # What it cannot read, and the decoder can.
        (_canon(b"\x08"), "backpressure.set"),
        (_canon(types(b"\x3f\x7f\0"), b"\x07\0"), "resource.drop async"),
        (_canon(b"\x60\0"), "built-in 0x60"),
        (_canon(*_FUNC_IMPORT, b"\x01\0\0\x01\x0a"), "canonical option 0xa"),
        (component(types(b"\x42\x01\x01" * 120 + b"\x42\0")), "types within one another over 64 deep"),
        # What it takes, and the decoder does not.
        (component(types(b"\x42\x01\x01" * 80 + b"\x42\0")), "types within one another over 64 deep"),
        (_wat("(component " * 40 + ")" * 40), "components within one another over 32 deep"),
        # What may be valid, and is larger than it takes.
        (_wat("(component (type (enum" + "".join(f' "e{n}"' for n in range(70_000)) + ")))"), "wasmtime's limits"),
        (_wat('(component (type (record (field "' + "a" * 100_001 + '" u8))))'), "wasmtime's limits"),
        (_wat(f"(component (core module (func {'(param i32)' * 1001})))"), "wasmtime's limits"),
        (_wat(f"(component (core module (func {'(local i32)' * 50_001})))"), "wasmtime's limits"),
    ],
)  # fmt: skip
async def test_each_feature_keeps_its_name(engine: Engine, data: bytes, feature: str) -> None:
    with pytest.raises(ComponentUnsupported) as caught:
        await Component.load(engine, data)
    assert caught.value.feature == feature


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
    """wasmtime's validator comes before linking, which sees for itself even so."""
    with pytest.raises(ComponentError, match="as (core )?instance"):
        link(decode_component(data))
