"""What docs/component.md says: the example as it stands there, and where the rules are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "component.md"
ROOM = Path(__file__).resolve().parents[2] / "operator" / "perdure" / "component"


def test_the_whole_example(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (source,) = (block for block in blocks if "asyncio.run" in block)
    file = tmp_path / "example.py"
    file.write_text(source)
    done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "4", "14", "6"]


SECTIONS = (
    "Component Instances", "Canonical ABI Options", "Lifting and Lowering Context", "Table State", "Resource State",
    "Despecialization", "Type Predicates", "Alignment", "Element Size", "Loading", "Storing", "Flattening", "Flat Lifting",
    "Flat Lowering", "Lifting and Lowering Values", "canon lift", "canon lower", "canon resource.new",
    "canon resource.drop", "canon resource.rep",
)  # fmt: skip
"""Those of `CanonicalABI.md` that speak of synchronous calls, in its order."""


def test_the_table_of_the_abi_names_what_there_is() -> None:
    """Every section has a row; every function named is defined in the module it is said to be in."""
    rows = re.findall(r"^\| [^|]+ \| (`\w[^|]+) \| ([^|]+) \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    told = [section for _, sections in rows for section in sections.split(", ")]
    assert set(told) == set(SECTIONS)
    for places, _ in rows:
        for place in places.split("; "):
            module, _, names = place.partition(": ")
            source = (ROOM / module.strip("`")).read_text(encoding="utf-8")
            for name in names.split(", "):
                assert re.search(rf"(def|class) {name.strip('`')}\b", source), (module, name)
