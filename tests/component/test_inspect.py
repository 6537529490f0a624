"""`perdure inspect`: what it prints, for components that run and for those that do not."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from wasmtime import wat2wasm

from perdure.cli.main import main
from perdure.registry import files
from support.custom import docs_section, with_section
from support.guests import guest
from support.hosts import EXAMPLE

RICH = Path(__file__).parent / "worlds" / "rich.wasm"


def inspected(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, str]:
    code = main(["inspect", str(path), *options])
    return code, capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, Any]:
    code, out = inspected(capsys, path, "--output", "json", *options)
    return code, json.loads(out)


def component(tmp_path: Path, wat: str) -> Path:
    path = tmp_path / "made.wasm"
    path.write_bytes(bytes(wat2wasm(wat)))
    return path


def test_a_component_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = inspected(capsys, EXAMPLE)
    wit, _, summary = out.partition("\n\ndigest ")
    assert code == 0
    assert "set: func(bucket: string, key: string, value: list<u8>);" in wit and "resource bucket {" in wit
    assert hashlib.sha256(EXAMPLE.read_bytes()).hexdigest() in summary
    rows = dict(line.split(maxsplit=1) for line in summary.splitlines()[1:])
    assert rows["runs"] == "yes" and rows["wasi:keyvalue"] == "G1"
    assert "wit-bindgen-rust" in rows["toolchain"] and "page" in rows["memory"]


def test_the_json_form_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = document(capsys, EXAMPLE)
    assert code == 0
    assert set(found) == {
        "digest", "size", "runs", "problem", "reasons", "refusedWhenCalled", "keyvalue", "toolchain", "memory", "modules",
        "exports", "notes", "wit", "world",
    }  # fmt: skip
    assert (found["runs"], found["problem"], found["reasons"]) == (True, None, [])
    assert found["exports"] == [f"golem:examples/api.{name}" for name in ("get", "set", "calls")]
    assert {tool["name"] for tool in found["toolchain"]["tools"]} >= {"wit-component", "wit-bindgen-rust"}
    memory = found["memory"]
    assert memory["initialBytes"] == sum(one["minimumPages"] * one["pageBytes"] for one in memory["memories"]) > 0
    assert set(found["world"]) == {"docs", "packageDocs", "imports", "exports"}
    api = found["world"]["exports"][0]
    assert set(api) == {"name", "package", "version", "docs", "types", "functions"}
    assert api["functions"][0] == {
        "name": "get",
        "kind": "function",
        "resource": None,
        "signature": "func(bucket: string, key: string) -> option<list<u8>>",
        "params": [{"name": "bucket", "type": "string"}, {"name": "key", "type": "string"}],
        "result": "option<list<u8>>",
        "unsupported": None,
        "docs": "",
    }


def test_types_keep_their_names_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = document(capsys, RICH)
    assert code == 1 and "perdure:worlds/both@1.2.3" in found["problem"]
    gallery = next(one for one in found["world"]["exports"] if one["name"] == "perdure:worlds/gallery@1.2.3")
    assert (gallery["package"], gallery["version"]) == ("perdure:worlds@1.2.3", "1.2.3")
    types = {one["name"]: one for one in gallery["types"]}
    assert types["exhibit"]["kind"] == "record"
    assert types["exhibit"]["definition"] == "record exhibit { label: string, at: dot, what: thing, again: newer, }"
    assert types["dot"]["sameAs"] == {"interface": "perdure:worlds/types@1.2.3", "name": "point"}
    functions = {one["name"]: one for one in gallery["functions"]}
    assert functions["hang"]["signature"] == "func(canvas: canvas, at: dot) -> result<exhibit, error>"


@pytest.mark.parametrize(("name", "generation"), [("kv-g1", "G1"), ("kv-g2", "G2"), ("kv-g3", "G3"), ("kv-g4", "G4")])
def test_the_generation_is_named(capsys: pytest.CaptureFixture[str], name: str, generation: str) -> None:
    code, found = document(capsys, guest(name))
    assert (code, found["keyvalue"]) == (0, [generation])


def test_every_reason_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(
        tmp_path,
        """(component
          (import "a:b/c" (instance $i
            (export "f" (func)) (export "g" (func)) (export "r" (type (sub resource))) (export "unused" (func))))
          (alias export $i "f" (func $f)) (alias export $i "g" (func $g)) (alias export $i "r" (type $r))
          (core func (canon lower (func $f))) (core func (canon lower (func $g))) (core func (canon resource.drop $r))
          (core module $shared (memory 1 2 shared))
          (core module $relaxed (func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))))))""",
    )
    code, found = document(capsys, path)
    assert code == 1 and found["runs"] is False
    assert [reason["feature"] for reason in found["reasons"]] == [
        "a:b/c f", "a:b/c g", "a:b/c r", "core features", "core features"
    ]  # fmt: skip
    assert "module shared" in found["reasons"][3]["detail"] and "module relaxed" in found["reasons"][4]["detail"]
    assert all(reason["detail"] in found["problem"] for reason in found["reasons"])
    assert "unused" not in found["problem"]
    code, out = inspected(capsys, path)
    assert code == 1 and all(reason["detail"] in out for reason in found["reasons"])


def test_later_wasi_is_shown_and_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(
        tmp_path,
        """(component (import "wasi:io/later@0.3.0" (instance $i (export "f" (func (param "s" (stream u8))))))
          (alias export $i "f" (func $f)) (core func (canon lower (func $f)))
          (core func (canon task.cancel)))""",
    )
    code, found = document(capsys, path)
    assert code == 1
    assert [reason["feature"] for reason in found["reasons"]] == ["task.cancel", "stream<T>"]
    assert "// f: uses stream<T>" in found["wit"]
    assert found["world"]["imports"][0]["functions"][0]["unsupported"] == "stream<T>"


def test_functions_that_only_trap_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(
        tmp_path,
        """(component (import "wasi:sockets/network@0.2.6" (instance $i (export "made-up" (func))))
          (alias export $i "made-up" (func $f)) (core func (canon lower (func $f))))""",
    )
    code, found = document(capsys, path)
    assert (code, found["refusedWhenCalled"]) == (0, ["wasi:sockets/network@0.2.6.made-up"])
    rows = [line.split() for line in inspected(capsys, path)[1].splitlines()]
    assert ["traps", "on", "call", "wasi:sockets/network@0.2.6.made-up"] in rows


def test_what_is_not_valid_has_no_world(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(tmp_path, '(component (import "f" (func)) (core module (func (drop))))')
    code, found = document(capsys, path)
    assert code == 1 and found["reasons"][0]["feature"] == "invalid"
    assert found["wit"] is None and found["world"] is None
    code, out = inspected(capsys, path)
    assert code == 1 and "world root" not in out and "type mismatch" in out


def test_nothing_is_compiled(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    monkeypatch.setattr(wasmtime.Module, "__init__", lambda *_args: compiled.append(1))
    assert document(capsys, EXAMPLE)[0] == 0
    never_made = component(tmp_path, "(component (component (core module (func (drop)))))")
    code, found = document(capsys, never_made)
    assert code == 1 and found["reasons"][0]["feature"] == "invalid" and "type mismatch" in found["problem"]
    assert compiled == []


def test_much_memory_at_the_start_is_noted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(tmp_path, "(component (core module (memory 2000 3000)))")
    code, out = inspected(capsys, path)
    assert code == 0
    assert "2,000 pages (131,072,000 bytes) at the start, at most 3,000 pages" in out and "limits.memory" in out
    assert "limits.memory" not in inspected(capsys, EXAMPLE)[1]


def test_a_command_is_noted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "set durability.memory to Invocation" in inspected(capsys, guest("command"))[1]
    assert "durability.memory" not in inspected(capsys, guest("web"))[1]


def test_generated_code_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = inspected(capsys, EXAMPLE, "--codegen")
    assert code == 0
    assert (
        "# import wasi:keyvalue/readwrite.get: func(bucket: borrow<bucket>, key: key) -> result<incoming-value, error>"
        in out
    )
    assert "# = func(bucket: borrow<bucket>, key: string) -> result<incoming-value, error>" in out
    assert (
        "# export golem:examples/api.get: func(bucket: string, key: string) -> option<list<u8>>\ndef lower_params("
        in out
    )
    headers = [
        line
        for line in inspected(capsys, EXAMPLE, "--codegen", "golem:examples/api.set")[1].splitlines()
        if line[0:2] == "# "
    ]
    assert headers == ["# export golem:examples/api.set: func(bucket: string, key: string, value: list<u8>)"]
    code, found = document(capsys, EXAMPLE, "--codegen", "set")
    assert code == 0 and [one["path"] for one in found["functions"]] == [
        "wasi:keyvalue/readwrite.set",
        "golem:examples/api.set",
    ]
    for one in found["functions"]:
        compile(one["source"], one["path"], "exec")


def test_code_of_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(EXAMPLE), "--codegen", "gett"]) == 1
    assert "did you mean 'get'" in capsys.readouterr().err


def test_a_component_without_functions_has_no_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = component(tmp_path, "(component)")
    assert inspected(capsys, path, "--codegen") == (0, "the component neither exports nor calls a function\n")
    assert document(capsys, path, "--codegen") == (0, {"functions": []})


def test_a_file_without_an_end(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_COMPONENT", 1 << 20)
    assert main(["inspect", "/dev/zero"]) == 1
    assert "/dev/zero is longer than a component may be (1,048,576 bytes)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "not WebAssembly"), (b"\0asm\1\0\0\0", "core module"), (b"\0asm\x0d\0\1\0\x07\xff", "malformed")],
)
def test_what_is_no_component_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, data: bytes, said: str
) -> None:
    path = tmp_path / "x.wasm"
    path.write_bytes(data)
    assert main(["inspect", str(path)]) == 1
    assert said in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "missing.wasm")]) == 1


def test_a_terminal_gets_no_control_characters(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "x.wasm"
    document = {"worlds": {"w": {"docs": "\x1b[31mred\r\u202e"}}}
    path.write_bytes(with_section(EXAMPLE.read_bytes(), "package-docs", docs_section(document)))
    _, out = inspected(capsys, path)
    assert "[31mred" in out and all(char.isprintable() or char == "\n" for char in out)


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = [sys.executable, "-m", "perdure", "inspect", str(EXAMPLE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(60) == 1
