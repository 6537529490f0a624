"""`perdure inspect`: what a component is, what it needs, and whether Perdure can run it."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from perdure.component.component import Component
from perdure.component.engine import Engine
from perdure.component.wit_text import format_world
from perdure.errors import ComponentError
from perdure.host.app import guest_interfaces
from perdure.keyvalue.generations import generations


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "inspect",
        help="show a component's world, and whether it can run",
        description="Print a component's imports and exports as WIT, its digest, the wasi:keyvalue generation it was "
        "built with, and whether Perdure can run it. Exit code 1: it cannot.",
    )
    parser.add_argument("file", metavar="FILE.wasm", type=Path)
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        data = args.file.read_bytes()
    except OSError as error:
        raise ComponentError(f"{args.file} cannot be read: {error.strerror}") from error
    return asyncio.run(_inspect(data, args.output))


async def _inspect(data: bytes, output: str) -> int:
    with Engine() as engine:
        component = await Component.load(engine, data)
        problem = None
        try:
            component.bind(guest_interfaces())
        except ComponentError as error:
            problem = error.detail
    found = generations({func.interface for func in component.plan.imports})
    if output == "json":
        document = {
            "digest": component.digest,
            "size": component.size,
            "keyvalue": found,
            "exports": [func.path for func in component.exports],
            "runs": problem is None,
            "problem": problem,
        }
        print(json.dumps(document))
    else:
        print(format_world(component.plan))
        print(f"digest         {component.digest}")
        print(f"size           {component.size:,} bytes")
        print(f"wasi:keyvalue  {', '.join(found) or 'not used'}")
        print(f"runs           {'yes' if problem is None else f'no: {problem}'}")
    return 0 if problem is None else 1
