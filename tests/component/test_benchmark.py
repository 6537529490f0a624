"""`benchmarks/component.py` runs from end to end; its timings are never asserted."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.guests import ROOT


@pytest.mark.timeout(300)
def test_the_benchmark_of_the_component_runtime_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "component.py", "--quick", "--output", "json"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tables = {table["title"]: table for table in json.loads(done.stdout)["tables"]}
    assert len(tables) == 6
    for table in tables.values():
        assert table["rows"]
        for row in table["rows"]:
            assert set(row) == set(table["columns"])
    for row in tables["Goals"]["rows"]:
        assert row["found"]["median"] > 0
        assert row["met"] in ("yes", "no")
