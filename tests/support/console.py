"""The commands of a page and what it says they print, typed as a reader would."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 20.0


@dataclass(frozen=True)
class Step:
    """A line behind `$ `, and those below it. In these `…` stands for anything."""

    command: str
    printed: str


def sections(page: str) -> dict[str, list[Step]]:
    """The steps of each section of a page that has any, by its heading."""
    found: dict[str, list[Step]] = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        for block in re.findall(r"^```console\n(.*?)^```", section, re.DOTALL | re.MULTILINE):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                found.setdefault(section.splitlines()[0], []).append(Step(command, printed.strip()))
    return found


def fits(printed: str, expected: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), printed) is not None


def typed(command: str, directory: Path, environment: Mapping[str, str]) -> str:
    """What a command prints. One that fails is typed again: what it looks for may be there a moment later."""
    limit = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run(
            command, shell=True, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode == 0:
            return done.stdout.strip()
        assert time.monotonic() < limit, (command, done.stdout, done.stderr)
        time.sleep(0.1)
