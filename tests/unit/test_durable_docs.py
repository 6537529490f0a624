"""The guest code of docs/durable-interface.md is that of an example which the tests run."""

from __future__ import annotations

import re

import pytest

from support.hosts import ROOT

BLOCKS = re.findall(r"```rust\n(.*?)```", (ROOT / "docs" / "durable-interface.md").read_text(), re.DOTALL)
GUEST = (ROOT / "examples" / "approvals" / "src" / "lib.rs").read_text()


def bare(code: str) -> str:
    return " ".join(code.split())


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_shows_is_run(block: str) -> None:
    assert bare(block) in bare(GUEST)
    # Negative control.
    assert bare(block.replace("(", "((", 1)) not in bare(GUEST)
