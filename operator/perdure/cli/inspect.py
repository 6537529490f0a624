"""`perdure inspect`: what a component is, what it needs, and whether Perdure can run it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from perdure.component.about import About, about_component
from perdure.component.canonical.listing import listings
from perdure.component.describe import memory_json, modules_json, toolchain_json, world_json
from perdure.component.engine import Engine
from perdure.component.support import Support, support
from perdure.component.wit_json import Json
from perdure.component.wit_world import format_world
from perdure.host.app import guest_interfaces
from perdure.keyvalue.generations import generations
from perdure.manifests.worker import Limits
from perdure.registry.files import read_component
from perdure.wasi.exit import is_command

_EPILOG = """\
examples:
  perdure inspect key-value.wasm                   the world as WIT, then what was found
  perdure inspect key-value.wasm --output json     the same for scripts; the fields are stable
  perdure inspect key-value.wasm --codegen set     the Python that carries values in and out of `set`

The JSON fields: digest, size, runs, problem, reasons [{feature, detail}], refusedWhenCalled, keyvalue, toolchain
{languages, tools, sdks: [{name, versions}]}, memory {initialBytes, memories [{module, minimumPages, maximumPages,
pageBytes, addressBits, shared}]}, modules [{name, size}], exports, notes, wit, world
{docs, packageDocs, imports, exports}; the last two are null for what is not a valid component.
An interface has name, package, version, docs, types [{name, kind, definition, sameAs, unsupported, docs, items}] and
functions [{name, kind, resource, signature, params [{name, type}], result, unsupported, docs}].
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="show a component's world, and whether it can run",
        description="Print a component's imports and exports as WIT, its size and digest, the tools that made it, the "
        "memory it starts with, the wasi:keyvalue generation it was built with, and whether Perdure can run it: if "
        "not, every reason. Nothing of the component is run. Exit code 1: it cannot run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", metavar="FILE.wasm", type=Path)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument(
        "--codegen",
        nargs="?",
        const="",
        metavar="FUNCTION",
        help="print instead the code generated to lift and lower a function's values, or every function's",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    data = read_component(args.file)
    about = about_component(data)
    with Engine() as engine:
        found = support(about, data, engine, guest_interfaces())
    if args.codegen is not None and found.runs:
        _print_codegen(about, args.codegen or None, args.output)
    elif args.output == "json":
        print(json.dumps(_document(about, found)))
    else:
        if found.valid:
            print("\n".join(map(_printable, format_world(about.world).split("\n"))), end="\n\n")
        print("\n".join(_summary(about, found)))
    return 0 if found.runs else 1


def _document(about: About, found: Support) -> dict[str, Json]:
    return {
        "digest": about.digest,
        "size": about.size,
        "runs": found.runs,
        "problem": "; ".join(reason.detail for reason in found.reasons) or None,
        "reasons": [dataclasses.asdict(reason) for reason in found.reasons],
        "refusedWhenCalled": list(found.refused),
        "keyvalue": list(_keyvalue(about)),
        "toolchain": toolchain_json(about),
        "memory": memory_json(about),
        "modules": modules_json(about),
        "exports": [interface.path_of(func) for interface, func in about.world.exported_functions()],
        "notes": list(_notes(about)),
        "wit": format_world(about.world) if found.valid else None,
        "world": world_json(about.world) if found.valid else None,
    }


def _summary(about: About, found: Support) -> list[str]:
    rows = [
        ("digest", about.digest),
        ("size", f"{about.size:,} bytes, {_counted(len(about.modules), 'core module')}"),
        ("toolchain", _printable(str(about.toolchain)) or "not recorded"),
        ("memory", _memory(about)),
        ("wasi:keyvalue", ", ".join(_keyvalue(about)) or "not used"),
        ("runs", "yes" if found.runs else "no"),
        *(("", reason.detail) for reason in found.reasons),
        *(("traps on call", name) for name in found.refused),
        *(("note", note) for note in _notes(about)),
    ]
    lines, before = [], None
    for label, text in rows:
        lines.append(f"{'' if label == before else label:<15}{_printable(text)}")
        before = label
    return lines


def _keyvalue(about: About) -> tuple[str, ...]:
    """Of the functions that code refers to: an interface may be imported for its types alone."""
    return generations({use.interface for use in about.uses if use.type is not None})


def _memory(about: About) -> str:
    if not about.memories:
        return "none"
    pages = sum(memory.minimum for memory in about.memories)
    size = sum(memory.minimum * memory.page for memory in about.memories)
    limits = [memory.maximum for memory in about.memories]
    known = [limit for limit in limits if limit is not None]
    most = f"at most {_counted(sum(known), 'page')}" if len(known) == len(limits) else "no limit of its own"
    many = "" if len(limits) == 1 else f" in {len(limits)} memories"
    return f"{_counted(pages, 'page')} ({size:,} bytes){many} at the start, {most}"


def _notes(about: About) -> list[str]:
    notes = list(about.notes)
    needed = sum(memory.minimum * memory.page for memory in about.memories)
    default = Limits().memory
    if needed > default:
        notes.append(f"it starts with {needed:,} bytes of memory: set limits.memory above its {default:,} bytes")
    if any(is_command(interface.path_of(func)) for interface, func in about.world.exported_functions()):
        notes.append("it is a command, which runs once in its memory: set durability.memory to Invocation")
    return notes


def _print_codegen(about: About, name: str | None, output: str) -> None:
    found = listings(about.world, about.uses, name)
    if output == "json":
        print(json.dumps({"functions": [{**dataclasses.asdict(one), "path": one.path} for one in found]}))
    else:
        print("\n".join(map(str, found)) or "the component neither exports nor calls a function")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _printable(text: str) -> str:
    """Names of a component are anybody's; a terminal must not act on them."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
