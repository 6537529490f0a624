"""The README's commands, so that tests run what users copy."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def blocks(heading: str) -> list[str]:
    """The shell blocks below a heading of the README, in order, without comments; continued lines joined."""
    text = (ROOT / "README.md").read_text()
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [re.sub(r"\\\n\s*", "", re.sub(r"\s+# .*", "", block)) for block in found]


def commands(block: str) -> list[str]:
    """One command a line."""
    return [line.strip() for line in block.splitlines() if line.strip()]
