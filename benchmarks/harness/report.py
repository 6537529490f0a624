"""Tables for people and JSON for programs, and the command line that every benchmark has."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from harness.machine import machine
from harness.rounds import Spread
from perdure.host.loop import run

Cell = str | int | float | Spread | None


@dataclass(frozen=True, slots=True)
class Table:
    """`rows` map column names to cells; a missing cell is empty. `note` is a sentence on how to read it."""

    title: str
    columns: Sequence[str]
    rows: list[Mapping[str, Cell]] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Options:
    """`rounds`: how often each contender runs; None: the benchmark's own number. `quick`: as little as shows that the
    program works; the figures say nothing."""

    rounds: int | None
    quick: bool = False


def number(value: float) -> str:
    """Three digits that matter, thousands apart: 0.12, 3.46, 27.1, 1,740."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def cell(value: Cell) -> str:
    """E.g. "2.61 (2.55–2.90)"."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Spread):
        return f"{number(value.median)} ({number(value.least)}–{number(value.greatest)})"
    return f"{value:,}" if isinstance(value, int) else number(value)


def render(table: Table) -> str:
    """Text with aligned columns: the first to the left, the others to the right."""
    grid = [list(table.columns)] + [[cell(row.get(column)) for column in table.columns] for row in table.rows]
    widths = [max(len(line[index]) for line in grid) for index in range(len(table.columns))]
    lines = []
    for line in grid:
        first, *others = (
            text.rjust(width) if index else text.ljust(width)
            for index, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    lines.insert(1, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    note = textwrap.wrap(table.note, 118)
    return "\n".join([table.title, *lines, *note])


def document(tables: Sequence[Table], about: Mapping[str, str]) -> str:
    """The same as JSON; spreads become objects of median, least and greatest."""
    return json.dumps({"machine": dict(about), "tables": [asdict(table) for table in tables]}, indent=2)


def main(description: str, benchmark: Callable[[Options], Awaitable[list[Table]]], *, has_quick: bool = False) -> None:
    """Parse the arguments, run, print. `has_quick`: the benchmark heeds `Options.quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each comparison (odd; at least 3)")
    if has_quick:
        parser.add_argument("--quick", action="store_true", help="only try whether everything runs; seconds")
    args = parser.parse_args()
    if args.rounds is not None and args.rounds < 3:
        parser.error("--rounds must be 3 or more: a median of less says nothing")
    about = machine()
    tables = run(_run(benchmark, Options(args.rounds, has_quick and args.quick)))
    if args.output == "json":
        print(document(tables, about))
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for table in tables:
        print()
        print(render(table))


async def _run(benchmark: Callable[[Options], Awaitable[list[Table]]], options: Options) -> list[Table]:
    return await benchmark(options)


def progress(line: str) -> None:
    """What runs now, for whoever waits; not part of the result."""
    print(line, file=sys.stderr, flush=True)
