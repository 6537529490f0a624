"""What a small component or guest can ask for is bounded: at load, at bind and at each crossing. Found by the fuzzers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
from wasmtime import wat2wasm

from fuzz.binary import component, core_module, extern, leb, name, section, types, vec
from perdure.component.about import about_component
from perdure.component.component import Component
from perdure.component.decode import decode_component
from perdure.component.engine import Engine
from perdure.component.instance import Instance, InstanceLimits
from perdure.component.link import link
from perdure.component.traps import MAX_NAME
from perdure.component.types import Variant
from perdure.component.wit_world import format_world
from perdure.errors import ComponentError, ComponentUnsupported, GuestTrapped, InvocationTimeout
from support.generated.ours import Host, OurComponent

_INSTANTIATE = b"\0\0\0"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as made:
        yield made


def _doubling(inner: bytes, times: int) -> bytes:
    for _ in range(times):
        inner = component(section(4, inner), section(5, vec([_INSTANTIATE] * 2)))
    return inner


def _itself() -> bytes:
    """The inner component instantiates the outer one's first component, which is itself."""
    inner = component(section(6, vec([b"\x04\x02\x01\0"])), section(5, vec([_INSTANTIATE])))
    return component(section(4, inner), section(5, vec([_INSTANTIATE])))


def _imported(depth: int, names: str) -> bytes:
    """An imported instance whose type exports instances of the type before it."""
    items = [b"\x42\0"]
    for index in range(depth):
        exports = [b"\x04" + extern(one) + b"\x05\0" for one in names]
        items.append(b"\x42" + vec([b"\x02\x03\x02\x01" + leb(index), *exports]))
    return component(types(*items), section(10, vec([extern("x:y/z") + b"\x05" + leb(depth)])))


def _held(depth: int, names: str, fill: str = "") -> bytes:
    """An exported instance that holds the one before it under each of the names, down to one with a function."""
    function = types(b"\x40\0\x01\0") + section(10, vec([extern("f") + b"\x01\0"]))
    inner = (vec(extern(one + fill) + b"\x05" + leb(index) for one in names) for index in range(depth))
    instances = section(5, vec([b"\x01" + vec([extern("f") + b"\x01\0"]), *(b"\x01" + one for one in inner)]))
    return component(function, instances, section(11, vec([extern("x") + b"\x05" + leb(depth) + b"\0"])))


def _wide(imports: int, instances: int) -> bytes:
    """A core module of many imports, instantiated many times."""
    module = core_module(section(1, vec([b"\x60\0\0"])), section(2, vec([name("a") + name("b") + b"\0\0"] * imports)))
    given = b"\0\x01" + vec([name("a") + b"\x12\0"])
    return component(core_module(), module, section(2, vec([_INSTANTIATE, *[given] * instances])))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(_held(30, "ab"), "more than", id="exported instances double"),
        pytest.param(_held(500, "a"), "more than", id="exported instances nest"),
        pytest.param(_held(17, "ab", "x" * 4000), "characters", id="paths grow"),
        pytest.param(_wide(30_000, 9_000), "more than", id="core imports times instances"),
        pytest.param(_doubling(component(), 31), "more than", id="instances double"),
        pytest.param(_doubling(component(core_module(), section(2, vec([_INSTANTIATE]))), 31), "more than", id="modules double"),
        pytest.param(_itself(), "more than", id="instantiates itself"),
        pytest.param(_imported(30, "ab"), "more than", id="imported instances double"),
        pytest.param(_imported(500, "a"), "more than", id="imported instances nest"),
        pytest.param(component(section(6, vec([b"\x03\x02" + leb(2**32 - 1) + b"\0"]))), "malformed|outermost|beyond", id="alias far outside"),
        pytest.param(component(section(7, leb(2**32 - 1))), "larger than what follows", id="a count of nothing"),
    ],
)  # fmt: skip
def test_a_small_binary_cannot_ask_for_much_work(data: bytes, said: str) -> None:
    with pytest.raises(ComponentError, match=said):
        link(decode_component(data))
    with contextlib.suppress(ComponentError):  # describing it may go further, but comes to an end as well
        format_world(about_component(data).world)


def _nested(depth: int) -> bytes:
    data = component()
    for _ in range(depth):
        data = component(section(4, data))
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        pytest.param(_nested(60), "components within one another more than 32 deep", id="components"),
        pytest.param(component(types(b"\x42\x01\x01" * 80 + b"\x42\0")), "types within one another more than 64", id="types"),
        pytest.param(component(section(3, b"\x01" + b"\x50\x01\x01" * 80 + b"\x50\0")), "core types", id="core types"),
    ],
)  # fmt: skip
def test_nesting_beyond_measure_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(ComponentUnsupported, match=said):
        decode_component(data)


def _returns(kind: str, named: str = "") -> bytes:
    """A component whose function `f` returns zeros as `kind`."""
    return bytes(
        wat2wasm(f"""(component {named}
          (core module $m (memory (export "m") 1) (func (export "f") (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func (export "f") (result {kind}) (canon lift (core func $i "f") (memory (core memory $i "m")))))""")
    )


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_returns("(list " * 40 + "u8" + ")" * 40), id="40 lists within one another"),
        pytest.param(_returns("(option " * 80 + "u8" + ")" * 80), id="80 options within one another"),
        pytest.param(
            _returns("$t17", "(type $t0 (tuple u8 u8))" + "".join(f"(type $t{n} (tuple $t{n - 1} $t{n - 1}))" for n in range(1, 18))),
            id="parts that double",
        ),
    ],
)  # fmt: skip
async def test_types_beyond_measure_are_refused_by_name(engine: Engine, data: bytes) -> None:
    with pytest.raises(ComponentUnsupported, match="nested deeper|parts"):
        (await Component.load(engine, data)).bind(Host({}))


async def test_types_as_large_as_people_write_them_work(engine: Engine) -> None:
    cases = " ".join(f'(case "c{n}" u32)' for n in range(3000))
    for kind, named, wanted in (
        ("$v", f'(type $r (variant {cases})) (import "v" (type $v (eq $r)))', Variant("c0", 0)),
        ("(list " * 15 + "u8" + ")" * 15, "", []),
        ("(tuple " + "u8 " * 1000 + ")", "", (0,) * 1000),
    ):
        ours = await OurComponent.load(engine, _returns(kind, named), {})
        instance = await ours.instantiate()
        assert await ours.call(instance, "f", ()) == wanted


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ('(memory 1 1 shared)', "threads"),
        ("(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i64x2 0 0))))", "relaxed SIMD"),
    ],
)  # fmt: skip
async def test_proposals_that_are_off_are_named(engine: Engine, module: str, said: str) -> None:
    with pytest.raises(ComponentUnsupported, match=said):
        await Component.load(engine, bytes(wat2wasm(f"(component (core module {module}))")))


# --- at run time


_GUEST = """(component
  (core module $m
    (memory (export "m") 1)
    (table 1 funcref)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) REALLOC)
    (func (export "table") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))
    ;; pointer 0 and length 1,919 everywhere, which is text as well
    (func $mirror (local $at i32)
      (loop $more
        (i32.store offset=4 (local.get $at) (i32.const 0x77f))
        (br_if $more (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 8))) (i32.const 65528)))))
    (func (export "mirror") (result i32) (call $mirror) (i32.const 0))
    (func (export "many") (result i32) (i32.store (i32.const 4) (i32.const 65000)) (i32.const 0))
    (func (export "put") (param i32 i32)))
  (core instance $m (instantiate $m))
  (func (export "put") (param "v" (list string))
    (canon lift (core func $m "put") (memory (core memory $m "m")) (realloc (core func $m "realloc"))))
  (func (export "table") (param "n" u32) (result u32) (canon lift (core func $m "table")))
  (func (export "lists") (result (list (list (list u8)))) (canon lift (core func $m "mirror") (memory (core memory $m "m"))))
  (func (export "strings") (result (list (list string))) (canon lift (core func $m "mirror") (memory (core memory $m "m"))))
  (func (export "many") (result (list u8)) (canon lift (core func $m "many") (memory (core memory $m "m")))))
"""


async def _guest(engine: Engine, realloc: str = "(i32.const 0)") -> tuple[OurComponent, Instance]:
    ours = await OurComponent.load(engine, bytes(wat2wasm(_GUEST.replace("REALLOC", realloc))), {})
    return ours, await ours.instantiate()


@pytest.mark.parametrize("name", ["lists", "strings"])
async def test_lists_of_the_same_list_do_not_fill_the_host(engine: Engine, name: str) -> None:
    ours, instance = await _guest(engine)
    with pytest.raises(GuestTrapped, match="bytes"):
        await ours.call(instance, name, ())
    ours, instance = await _guest(engine)
    many = await ours.call(instance, "many", ())
    assert isinstance(many, bytes) and len(many) == 65000


async def test_a_spinning_realloc_ends_with_the_call(engine: Engine) -> None:
    ours, instance = await _guest(engine, "(loop $l (br $l)) (i32.const 0)")
    with pytest.raises(InvocationTimeout):
        await ours.call(instance, "put", (["a"],), seconds=0.1)
    assert not instance.usable


async def test_many_slow_reallocs_end_with_the_call_and_hold_nobody_up(engine: Engine) -> None:
    """Each is over before its patience is; together they would take minutes."""
    slow = """(local $n i32)
      (loop $l (br_if $l (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000000))))
      (i32.const 16)"""
    ours, instance = await _guest(engine, slow)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    with pytest.raises(InvocationTimeout):
        await ours.call(instance, "put", (["a"] * 8_000,), seconds=1)
    task.cancel()
    assert turns > 5


async def test_tables_and_memories_are_bounded(engine: Engine) -> None:
    ours, instance = await _guest(engine)
    assert await ours.call(instance, "table", (1000,)) == 1
    assert await ours.call(instance, "table", (100_000_000,)) == 0xFFFFFFFF
    many = await OurComponent.load(
        engine,
        bytes(wat2wasm(f"(component (core module $m {'(memory 1)' * 90}) (core instance (instantiate $m)))")),
        {},
    )
    with pytest.raises(GuestTrapped, match="memory count"):
        await many.instantiate(InstanceLimits(memory=1 << 20))


async def test_names_in_a_trap_are_cut(engine: Engine) -> None:
    name = "f" * 90_000
    text = f"""(component (core module $m (func ${name} (unreachable)) (func (export "f") (call ${name})))
      (core instance $i (instantiate $m)) (func (export "f") (canon lift (core func $i "f"))))"""
    ours = await OurComponent.load(engine, bytes(wat2wasm(text)), {})
    instance = await ours.instantiate()
    with pytest.raises(GuestTrapped) as caught:
        await ours.call(instance, "f", ())
    assert caught.value.frames[0] == "f" * MAX_NAME and len(caught.value.detail) < 1000
