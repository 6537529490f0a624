"""What toolchains say of a component: read where it is well formed, left out with a note where it is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure.component.about import Tool, Toolchain
from perdure.component.custom import MAX_DOCS, MAX_SECTION, Notes, core_module_names, package_docs, producers
from perdure.component.docs import with_docs
from perdure.component.interfaces import Function, Interface, TypeDefinition, World
from perdure.component.types import FuncType, PrimType, RecordType
from support.custom import docs_section, leb, named, producers_section

FIELDS = {"language": {"Rust": "", "C": "17"}, "processed-by": {"rustc": "1.95.0 (abc)", "wit-component": "0.245.1"}}


def test_producers_are_read() -> None:
    notes = Notes()
    assert producers(producers_section({**FIELDS, "odd": {"x": "y"}}), "it", notes) == FIELDS
    assert producers(producers_section({}), "it", notes) == {}
    assert not notes.lines


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "unexpected end"),
        (b"\x01", "unexpected end"),
        (leb(65), "more than 64 fields"),
        (leb(0) + b"x", "left over"),
        (leb(1) + named("language") + leb(1) + named("x" * 257) + named(""), "256 characters"),
        (leb(1) + named("language") + leb(1) + b"\x02\xff\xfe" + named(""), "UTF-8"),
        (b"\0" * (MAX_SECTION + 1), "bytes"),
    ],
)
def test_malformed_producers_are_left_out_with_a_note(data: bytes, said: str) -> None:
    notes = Notes()
    assert producers(data, "the component", notes) == {}
    assert len(notes.lines) == 1 and said in notes.lines[0] and "the component" in notes.lines[0]


def test_core_modules_get_their_names() -> None:
    def subsection(body: bytes) -> bytes:
        return b"\x01" + leb(len(body)) + body

    names = b"\x00\x11" + leb(2) + leb(0) + named("main") + leb(3) + named("libc.so")
    funcs = b"\x01" + leb(1) + leb(0) + named("f")
    notes = Notes()
    assert core_module_names(subsection(funcs) + subsection(names), notes) == {0: "main", 3: "libc.so"}
    assert not notes.lines
    assert core_module_names(subsection(names[:-3]), notes) == {}
    assert "component-name" in notes.lines[0]


@settings(deadline=None)
@given(st.binary(max_size=64))
def test_arbitrary_sections_are_never_a_failure(data: bytes) -> None:
    for section in (data, b"\x01" + data, leb(1) + named("language") + data):
        notes = Notes()
        producers(section, "it", notes)
        core_module_names(section, notes)
        package_docs(section, notes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\x02{}", "version 2"),
        (b"\x01", "not JSON"),
        (b"\x01[]", "not a JSON object"),
        (b"\x01" + b"[" * 100_000, "not JSON"),
        (b'\x01{"docs": "\xff"}', "not JSON"),
    ],
)
def test_malformed_docs_are_left_out_with_a_note(data: bytes, said: str) -> None:
    notes = Notes()
    package_docs(data, notes)
    assert len(notes.lines) == 1 and said in notes.lines[0]


def test_docs_of_the_wrong_shape_are_passed_over() -> None:
    document = {
        "docs": 3,
        "interfaces": {"api": {"docs": "kept", "funcs": [], "types": {"t": 5, "u": {"items": {"x": 1}}}}},
    }
    notes = Notes()
    found = package_docs(docs_section(document), notes)
    assert found.docs == "" and found.interfaces["api"].docs == "kept" and not notes.lines
    long = package_docs(docs_section({"docs": "x" * (MAX_DOCS + 9) + "\ud800"}), notes)
    assert len(long.docs) == MAX_DOCS


FUNC = FuncType((), None)
POINT = RecordType((("x", PrimType("u8")),))
API = Interface("a:b/api@1.0.0", (TypeDefinition("point", POINT),), (Function("set", FUNC),))
WORLD = World(
    imports=(Interface("x:y/api", (), (Function("set", FUNC),)), Interface("", (), (Function("log", FUNC),))),
    exports=(API, Interface("small", (), (Function("f", FUNC),)), Interface("", (), (Function("run", FUNC),))),
)


@pytest.mark.parametrize("version", [0, 1])
def test_docs_reach_what_they_describe(version: int) -> None:
    def func(text: str) -> object:
        return text if version == 0 else {"docs": text}

    document = {
        "docs": "The package.",
        "worlds": {
            "w": {
                "docs": "The world.",
                "funcs": {"log": func("Logs."), "run": func("Runs.")},
                "interfaces": {"small": {"docs": "Small.", "funcs": {"f": func("F.")}}},
                "interface_import_docs": {"x:y/api": "Needed."},
            }
        },
        "interfaces": {
            "api": {
                "docs": "Api.",
                "funcs": {"set": func("Sets.")},
                "types": {"point": {"docs": "P.", "items": {"x": "X."}}},
            }
        },
    }
    notes = Notes()
    found = with_docs(WORLD, package_docs(docs_section(document, version), notes), notes)
    assert not notes.lines
    api, small, own = found.exports
    assert (found.docs, found.packages) == ("The world.", {"a:b@1.0.0": "The package."})
    assert (api.docs, api.functions[0].docs, api.types[0].docs, api.types[0].items) == (
        "Api.",
        "Sets.",
        "P.",
        {"x": "X."},
    )
    assert (small.docs, small.functions[0].docs, own.functions[0].docs) == ("Small.", "F.", "Runs.")
    imported, top = found.imports
    assert (imported.docs, imported.functions[0].docs) == ("Needed.", "")
    assert top.functions[0].docs == "Logs."
    assert found.names is WORLD.names


def test_docs_of_something_else_are_noted() -> None:
    notes = Notes()
    document = {"interfaces": {"other": {"docs": "x"}}, "worlds": {"a": {"docs": "x"}, "b": {"docs": "y"}}}
    assert with_docs(WORLD, package_docs(docs_section(document), notes), notes) == WORLD
    assert len(notes.lines) == 2


def test_a_toolchain_reads_as_a_sentence() -> None:
    tools = (Tool("rustc", ("1.95.0 (abc)",)), Tool("wit-component", ("0.245.1", "0.244.0")), Tool("x", ()))
    assert str(Toolchain((Tool("Rust", ()),), tools)) == "Rust 1.95.0 (wit-component 0.245.1, x)"
    assert str(Toolchain((), tools)) == "rustc 1.95.0 (abc), wit-component 0.245.1, x"
    assert str(Toolchain((Tool("Go", ("1.26",)),))) == "Go 1.26"
    assert str(Toolchain()) == ""
