"""The examples that users copy, as they are after `make examples`."""

from __future__ import annotations

import asyncio
import functools
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perdure.component.component import Component
from perdure.component.engine import Engine, EngineConfig
from support.guests import COMPILED, ROOT, example

EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())


@functools.cache
def compiled_example(name: str) -> Path:
    """Its component, whose compiled code is in COMPILED, as hosts with that cache will find it."""
    path = example(name)

    async def compiled() -> None:
        with Engine(EngineConfig(cache_dir=COMPILED)) as engine:
            await Component.load(engine, path.read_bytes())

    # In a thread of its own, for there may be an event loop in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, compiled()).result()
    return path


def made_example(name: str, directory: Path) -> Path:
    """Its `local.yaml` in a checkout of its own below `directory`, with the component beside it."""
    made = directory / "checkout" / "examples" / name
    made.mkdir(parents=True)
    for manifest in ("local.yaml", "worker.yaml"):
        shutil.copy(ROOT / "examples" / name / manifest, made)
    (made / f"{name}.wasm").symlink_to(compiled_example(name))
    return made / "local.yaml"


def data_directory(directory: Path) -> Path:
    """Where a host keeps its data; its compiled code is that of all tests."""
    made = directory / "data"
    made.mkdir()
    COMPILED.mkdir(parents=True, exist_ok=True, mode=0o700)
    (made / "cache").symlink_to(COMPILED)
    return made
