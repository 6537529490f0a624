"""Sizes of snapshots, and how long capturing and restoring take, for a guest of each language.

Columns of bytes are after Zstandard: `memory` the whole of it, `pages` those that differ from the initial image,
`full` the same pages XOR that image, which is a full snapshot; `delta` is a snapshot that follows the full one after
one more call. Times are the least of several runs, in milliseconds; `restore` includes `blank`, a new instance.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import zstandard

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from perdure.component.capi import RAW  # noqa: E402
from perdure.component.snapshot.image import place  # noqa: E402
from support.state_guests import CODEC, LANGUAGES, Operation, World, loaded, state_guest  # noqa: E402

RUNS = 20
ROUND: list[Operation] = [
    ("count", []),
    ("remember", ["key", "value" * 20]),
    ("churn", [200]),
    ("stamp", []),
    ("hold", ["note"]),
]
CALLS = ROUND * 20
COLUMNS = (
    *("guest", "memory, MB", "pages changed", "memory, B", "pages, B", "full, B", "delta, B"),
    *("capture, ms", "without pagemap", "delta, ms", "restore, ms", "blank, ms"),
)


def least(work: Callable[[], object]) -> float:
    return min(_timed(work) for _ in range(RUNS))


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000


async def least_of(work: Callable[[], Awaitable[None]]) -> float:
    times = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        await work()
        times.append((time.perf_counter() - begin) * 1000)
    return min(times)


async def measured(component: Path) -> list[str]:
    async with loaded(component) as guest:
        snapshots, instance = guest.snapshots, await guest.instance()
        await guest.perform(instance, CALLS)
        full = snapshots.capture(instance, codec=CODEC)
        places = [place(instance, memory) for memory in guest.bound.component.layout.memories]
        whole = b"".join(bytes(RAW[address : address + size]) for address, size in places)
        pages = [page for memory in full.state.memories for page in memory.pages.values()]
        compress = zstandard.ZstdCompressor(level=1).compress
        await guest.perform(instance, [("count", [])])
        delta = snapshots.capture(instance, codec=CODEC, parent=full)

        async def blank() -> None:
            (await guest.bound.blank(World())).close()

        async def restore() -> None:
            (await snapshots.restore([full.data], World(), codec=CODEC))[0].close()

        return [
            f"{len(whole) / 1e6:.1f}",
            f"{len(pages)}",
            *(f"{len(data):,}" for data in (compress(whole), compress(b"".join(pages)), full.data, delta.data)),
            f"{least(lambda: snapshots.capture(instance, codec=CODEC)):.2f}",
            f"{least(lambda: snapshots.capture(instance, codec=CODEC, prefilter=False)):.2f}",
            f"{least(lambda: snapshots.capture(instance, codec=CODEC, parent=full)):.2f}",
            f"{await least_of(restore):.2f}",
            f"{await least_of(blank):.2f}",
        ]


def main() -> None:
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for language in sys.argv[1:] or LANGUAGES:
        print("| " + " | ".join([language, *asyncio.run(measured(state_guest(language)))]) + " |", flush=True)


if __name__ == "__main__":
    main()
