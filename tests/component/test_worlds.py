"""A component's world: names, `use`, resources and docs, from the bytes alone.

`worlds/rich.wasm` has one of everything and no code that does anything. It was made of `worlds/rich/` by
`wasm-tools component embed --dummy --world rich` and `wasm-tools component new`; `worlds/rich.wit` is what is expected
of it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from perdure.component.about import About, Memory, about_component
from perdure.component.decode import decode_component
from perdure.component.describe import world_json
from perdure.component.interfaces import Interface, TypeName, World
from perdure.component.link import link
from perdure.component.types import FuncType
from perdure.component.wit_world import format_world
from perdure.errors import ComponentError, ComponentUnsupported
from support.custom import docs_section, producers_section, with_section
from support.guests import guest
from support.hosts import EXAMPLE
from support.wit_tools import resolved, wasm_tools

WORLDS = Path(__file__).parent / "worlds"
RICH = WORLDS / "rich.wasm"
GUESTS = ("kv-g1", "kv-g2", "kv-g3", "kv-g4", "values", "trouble")


def about(path: Path) -> About:
    return about_component(path.read_bytes())


def interface(found: tuple[Interface, ...], name: str) -> Interface:
    return next(one for one in found if one.name == name)


def of(wat: str) -> About:
    return about_component(bytes(wat2wasm(wat)))


def test_a_world_reads_as_wit() -> None:
    assert format_world(about(RICH).world) + "\n" == (WORLDS / "rich.wit").read_text()


@pytest.mark.skipif(wasm_tools() is None, reason=".ci/install-wasm-tools has not been run")
@pytest.mark.parametrize("name", ["rich", "example", *GUESTS])
def test_wasm_tools_finds_the_same_world_in_the_component_and_in_our_text(name: str, tmp_path: Path) -> None:
    path = {"rich": RICH, "example": EXAMPLE}.get(name) or guest(name)
    text = tmp_path / "world.wit"
    text.write_text(format_world(about(path).world))
    assert resolved(text) == resolved(path)
    # Negative control: the comparison sees one letter.
    text.write_text(re.sub(r"(?<!-)\bu64\b", "s64", text.read_text()))
    assert resolved(text) != resolved(path)


@pytest.mark.parametrize("name", GUESTS)
def test_functions_have_the_structure_that_is_linked(name: str) -> None:
    data = guest(name).read_bytes()
    plan, world = link(decode_component(data)), about_component(data).world
    functions = {world_interface.path_of(func): func.type for world_interface, func in world.exported_functions()}
    assert functions == {func.path: func.type for func in plan.exports}
    imported = {(one.name, func.name): func.type for one in world.imports for func in one.functions}
    for used in plan.imports:
        found = imported[used.interface, used.name]
        assert isinstance(found, FuncType) and [name for name, _ in found.params] == [
            name for name, _ in used.type.params
        ]


def test_names_do_not_touch_the_structural_types() -> None:
    """Two types of one structure are equal, and have names of their own."""
    world = of(
        """(component
          (import "a:b/c" (instance
            (type $p (record (field "x" u8))) (export "point" (type $point (eq $p)))
            (type $q (record (field "x" u8))) (export "size" (type $size (eq $q)))
            (export "same" (type $same (eq $point)))
            (export "f" (func (param "p" $point) (param "q" $size) (param "r" $same))))))"""
    ).world
    (found,) = world.imports
    point, size, same = found.types
    assert point.type == size.type == same.type and hash(point.type) == hash(size.type)
    assert (point.same_as, size.same_as, same.same_as) == (None, None, TypeName("a:b/c", "point"))
    kind = found.functions[0].type
    assert kind is not None
    assert [world.names.of(t) for _, t in kind.params] == [
        TypeName("a:b/c", name) for name in ("point", "size", "same")
    ]
    assert "f: func(p: point, q: size, r: same);" in format_world(world)
    assert "type same = point;" in format_world(world)


def test_types_of_other_interfaces_are_used_even_where_they_are_not_listed() -> None:
    world = of(
        """(component
          (import "a:b/c@1.0.0" (instance $c
            (type $e (enum "on" "off")) (export "error" (type $error (eq $e))) (export "r" (type (sub resource)))))
          (alias export $c "error" (type $error))
          (import "a:b/d@1.0.0" (instance
            (type $e (enum "no")) (export "error" (type $own (eq $e)))
            (alias outer 1 $error (type $other))
            (export "f" (func (param "a" $own) (param "b" $other)))))
          (import "x:y/z" (instance (alias outer 1 $error (type $other)) (export "g" (func (param "b" $other))))))"""
    ).world
    text = format_world(world)
    assert "use c.{error as error-other};" in text and "f: func(a: error, b: error-other);" in text
    assert "use a:b/c@1.0.0.{error};" in text and "g: func(b: error);" in text


def test_an_exported_instance_without_ascribed_types_has_names_all_the_same() -> None:
    world = of(
        """(component
          (core module $m (func (export "f") (param i32)))
          (core instance $i (instantiate $m))
          (type $p (record (field "x" u32)))
          (func $f (param "p" $p) (canon lift (core func $i "f")))
          (instance $e (export "point" (type $p)) (export "f" (func $f)))
          (export "a:b/c" (instance $e)))"""
    ).world
    assert "record point {\n      x: u32,\n    }\n\n    f: func(p: point);" in format_world(world)


def test_the_generations_of_keyvalue_keep_their_words() -> None:
    found = about(guest("kv-g1"))
    types = interface(found.world.imports, "wasi:keyvalue/types")
    assert types.package == "wasi:keyvalue" and types.local_name == "types" and types.version is None
    bucket = next(func for func in types.functions if func.name == "[static]bucket.open-bucket")
    assert (bucket.kind, bucket.resource, bucket.item) == ("static", "bucket", "open-bucket")
    uses = interface(found.world.imports, "wasi:keyvalue/readwrite")
    assert {t.name: t.same_as for t in uses.types}["key"] == TypeName("wasi:keyvalue/types", "key")
    # `readwrite` uses it through `types`; it is another interface's in the end.
    assert found.world.origin(TypeName("wasi:keyvalue/readwrite", "error")) == TypeName(
        "wasi:keyvalue/wasi-cloud-error", "error"
    )


def test_docs_and_toolchain_come_from_custom_sections() -> None:
    document = {
        "docs": "Of everything one.",
        "interfaces": {
            "types": {
                "docs": "Shapes.\nAnd \u202etheir\u0007 parts.",
                "funcs": {"[method]canvas.draw": {"docs": "Draws."}},
                "types": {"point": {"docs": "A place.", "items": {"x": "From the left."}}},
            }
        },
    }
    data = with_section(RICH.read_bytes(), "package-docs", docs_section(document))
    data = with_section(
        data, "producers", producers_section({"language": {"Rust": ""}, "processed-by": {"rustc": "1.95.0 (x)"}})
    )
    found = about_component(data)
    assert not found.notes and str(found.toolchain).startswith("Rust 1.95.0 (wit-component ")
    text = format_world(found.world)
    for expected in (
        "/// Of everything one.\npackage perdure:worlds@1.2.3 {",
        "  /// Shapes.\n  /// And \N{REPLACEMENT CHARACTER}their\N{REPLACEMENT CHARACTER} parts.\n  interface types {",
        "    /// A place.\n    record point {\n      /// From the left.\n      x: s32,",
        "      /// Draws.\n      draw: func(",
    ):
        assert expected in text
    undocumented = [line for line in text.splitlines() if not line.lstrip().startswith("///")]
    assert "\n".join(undocumented) + "\n" == (WORLDS / "rich.wit").read_text()
    shown = world_json(found.world)
    assert shown["packageDocs"] == {"perdure:worlds@1.2.3": "Of everything one."}


def test_sections_that_cannot_be_read_are_noted_and_change_nothing() -> None:
    data = RICH.read_bytes()
    for name in ("package-docs", "producers", "component-name"):
        data = with_section(data, name, b"\xff\xff")
    found = about_component(data)
    assert len(found.notes) == 3
    assert format_world(found.world) + "\n" == (WORLDS / "rich.wit").read_text()


def test_core_modules_and_memories() -> None:
    found = about(EXAMPLE)
    assert [module.name for module in found.modules][0] == "main"
    assert [module.is_glue for module in found.modules] == [False, True, True]
    assert all(memory.maximum is None and memory.page == 65_536 for memory in found.memories)
    assert found.memories[0].minimum > 0
    found = of("(component (core module $a (memory 2 5)) (component (core module $b (memory i64 1))))")
    assert found.memories == (Memory(2, 5), Memory(1, None, addresses=64))
    assert [module.name for module in found.modules] == ["a", "b"]


@pytest.mark.parametrize(
    ("wat", "features"),
    [
        ('(import "m" (core module)) (import "n" (core module))', ["core module imports"] * 2),
        ('(import "c" (component))', ["component imports"]),
        (
            """(import "a:b/c" (instance $i (export "f" (func (param "s" (stream u8)))) (export "g" (func (result (future u8))))))
               (alias export $i "f" (func $f)) (alias export $i "g" (func $g))
               (core func (canon lower (func $f))) (core func (canon lower (func $g)))""",
            ["stream<T>", "future<T>"],
        ),
        (
            """(core func (canon task.cancel)) (core func (canon waitable-set.new)) (core func (canon backpressure.inc))
               (core func (canon context.get i32 0)) (core func (canon task.return (result u8)))
               (type $s (stream u8)) (core func (canon stream.new $s)) (core func (canon stream.drop-readable $s))
               (core func (canon subtask.drop)) (core func (canon thread.yield))""",
            ["task.cancel", "waitable-set", "backpressure.inc", "context.get", "task.return", "stream<T>", "subtask.drop",
             "thread.yield"],
        ),
    ],
)  # fmt: skip
def test_every_unsupported_feature_is_named(wat: str, features: list[str]) -> None:
    found = of(f"(component {wat})")
    assert [reason.feature for reason in found.reasons] == features
    # Negative control: loading names one and stops.
    with pytest.raises(ComponentUnsupported):
        link(decode_component(bytes(wat2wasm(f"(component {wat})"))))


def test_what_is_unsupported_and_never_used_is_no_reason() -> None:
    found = of(
        '(component (import "a:b/c" (instance (export "f" (func (param "s" (stream u8)))) (export "g" (func)))))'
    )
    assert not found.reasons
    assert "// f: uses stream<T>, which Perdure does not support\n    g: func();" in format_world(found.world)


def test_components_that_unfold_without_end_are_refused() -> None:
    doubling = "".join(
        f"(component $c{n + 1} (alias outer 1 $c{n} (component $x)) (instance (instantiate $x)) (instance (instantiate $x)))"
        for n in range(24)
    )
    with pytest.raises(ComponentUnsupported, match="instances"):
        of(f"(component (component $c0) {doubling} (instance (instantiate $c24)))")
    tuples = "".join(f"(type $t{n + 1} (tuple $t{n} $t{n}))" for n in range(40))
    with pytest.raises(ComponentUnsupported, match="parts"):
        of(f"(component (type $t0 (tuple u8)) {tuples})")
    lists = "".join(f"(type $t{n + 1} (list $t{n}))" for n in range(200))
    with pytest.raises(ComponentUnsupported, match="deeper"):
        of(f"(component (type $t0 (list u8)) {lists})")


def test_named_types_stop_the_unfolding() -> None:
    records = "".join(
        f'(type $r{n + 1} (record (field "a" $t{n}) (field "b" $t{n}))) (export "t{n + 1}" (type $t{n + 1} (eq $r{n + 1})))'
        for n in range(40)
    )
    found = of(
        f'(component (import "a:b/c" (instance (type $r0 (record (field "a" u8))) (export "t0" (type $t0 (eq $r0))) {records})))'
    )
    assert format_world(found.world).count("record ") == 41


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_reading_survives_mutated_components(data: st.DataObject) -> None:
    mutated = bytearray((RICH if data.draw(st.booleans()) else EXAMPLE).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(8, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(mutated)) | st.just(len(mutated)))
    try:
        world: World = about_component(bytes(mutated[:cut])).world
    except ComponentError:
        return
    format_world(world)
    world_json(world)


def test_an_alias_as_another_sort_is_malformed() -> None:
    """Found by the decoder's fuzzer, in a component that was a type where it named an instance."""
    data = bytes.fromhex(
        "0061736d0d000100071f046a00007b4200420404000166030104000174030102030200000203020000051402010100016603030102000161"
        "050000016603010a06010001660502060a020502000105000101660519020103000166030300016603030001660300010100016d05030b23"
        "04000b613a622f6340302e312e30050400000166050700000166050800000166030300"
    )
    with pytest.raises(ComponentError, match="alias of 'f' as instance, which is type"):
        about_component(data)
