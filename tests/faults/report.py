"""What a sweep found, as Markdown. Pure but for `write`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from faults.network import NetworkTally
from faults.sweep import Tally

_BEGIN, _END = "<!-- last report -->", "<!-- end of the last report -->"


def report(
    tally: Tally, harms: NetworkTally, args: argparse.Namespace, started: int, seconds: float, *, whole: bool
) -> list[str]:
    """Counts by setting, by boundary, by harm, and everything that was wrong."""
    wrong = [f"{outcome.wrong} (`{outcome.schedule.command}`)" for outcome in tally.wrong] + harms.wrong
    share = "all boundaries" if args.share == 1 else f"{args.share:g} of the boundaries, each stopped in one way"
    share += "" if whole else ", cut short"
    summary = (
        f"Seed {args.seed}, {share}, {seconds / 60:.0f} minutes: **{len(tally.boundaries)} distinct boundaries, "
        f"{tally.schedules} schedules** with {tally.faults.total()} kills, pauses and restarts that came about "
        f"({tally.missed} schedules whose fault was not reached), {started} host processes; "
        f"{harms.harms.total()} harmed exchanges ({harms.struck} struck). **Wrong: {len(wrong)}.**"
    )
    lines = [summary, "", *(f"- {one}" for one in wrong)]
    if tally.runs:
        lines += ["", "| guest, home, other store, commit | how | schedules | faults |", "|---|---|---|---|"]
        lines += [
            f"| {setting} | {kind} | {number} | {tally.faults[setting, kind]} |"
            for (setting, kind), number in sorted(tally.runs.items())
        ]
        kinds = sorted({kind for _, kind in tally.points})
        lines += ["", f"| first fault at | {' | '.join(kinds)} |", f"|---|{'---|' * len(kinds)}"]
        for point in sorted({point for point, _ in tally.points}):
            numbers = [str(tally.points[point, kind] or "") for kind in kinds]
            lines.append(f"| `{point}` | {' | '.join(numbers)} |")
    if harms.harms:
        lines += ["", "| home | exchange of | way | harm | times |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(key)} | {number} |" for key, number in sorted(Counter(harms.harms).items())]
    return lines


def write(page: Path, lines: list[str]) -> None:
    """Put the report into its place on the page."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for the report")
    page.write_text("\n".join([before + begin, *lines, end + after]))
