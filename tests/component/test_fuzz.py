"""A seeded slice of each fuzzer; `make fuzz` runs more of them. The harness is tested with a fuzzer that misbehaves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.campaign import TESTS, Campaign, Run, resumed, shares_of, supervise
from fuzz.control import ControlFuzzer
from fuzz.decoder import DecoderFuzzer
from fuzz.differential import DifferentialFuzzer
from fuzz.harness import Fuzzer, source_of
from fuzz.hostile import HostileFuzzer


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("make", "cases", "wanted"),
    [
        (DecoderFuzzer, 1500, {"refused", "unsupported", "planned", "valid, started"}),
        (HostileFuzzer, 600, {"value", "trapped: canonical-abi", "trapped: unreachable", "trapped: stack-overflow", "misfit refused"}),
        (DifferentialFuzzer, 60, {"echo", "trap", "wild value"}),
    ],
    ids=["decoder", "hostile", "differential"],
)  # fmt: skip
def test_a_slice_of_the_fuzzer_finds_nothing(make: type[Fuzzer], cases: int, wanted: set[str]) -> None:
    run = supervise(make, make.__module__, seed=2026, cases=cases)
    assert not run.findings, run.report(make)
    assert run.figures.cases == cases
    assert wanted <= set(run.figures.outcomes), "the cases reach no further than they used to"


@pytest.mark.timeout(600)
def test_the_harness_sees_crashes_hangs_and_swelling() -> None:
    run = supervise(ControlFuzzer, ControlFuzzer.__module__, seed=1, cases=13)
    found: dict[int, str] = {}
    for finding in run.findings:
        # What grows may be slow as well.
        found[finding.case] = found.get(finding.case, "") + finding.what
    assert set(found) == {3, 5, 7, 9, 11}, run.report(ControlFuzzer)
    assert "SIGSEGV" in found[3] and "hang" in found[5] and "KeyError" in found[7]
    assert "grew" in found[9] and "slow" in found[11]
    assert {finding.case: finding.data for finding in run.findings}[3] == b"case 3"
    assert run.figures.cases == 13


@pytest.mark.timeout(600)
def test_a_run_is_stopped_and_resumed(tmp_path: Path) -> None:
    """Two seeds, each crashing at its case 3; the second run finds what the first one left, and no case twice."""
    record = tmp_path / "control.json"
    module = ControlFuzzer.__module__
    Campaign(ControlFuzzer, module, Run("control", shares_of(1, 10, 0, 2)), limit=0.0, record=record).supervise()
    begun = resumed(record)
    assert not begun.done and begun.figures.cases == 0
    Campaign(ControlFuzzer, module, begun, record=record).supervise()
    run = resumed(record)
    assert run.done and run.figures.cases == 10 and run.seconds > 0
    assert {(one.seed, one.case, one.is_crash) for one in run.findings} == {(1, 3, True), (2, 3, True)}
    assert (tmp_path / "control-2-3.wasm").read_bytes() == b"case 3"
    assert "10 of 10 cases, seeds 1, 2" in run.report(ControlFuzzer)
    Campaign(ControlFuzzer, module, run, record=record).supervise()
    assert run.figures.cases == 10


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("first", "code"), [(0, 0), (3, 1)])
def test_the_command_says_what_it_found(tmp_path: Path, first: int, code: int) -> None:
    command = [sys.executable, "-m", "fuzz.control", "--cases", "2", "--first", str(first), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "2 of 2 cases, seeds 1" in done.stdout and f"{2 - code} accepted" in done.stdout
    assert f"crashes and hangs: {code}, other findings: 0" in done.stdout


def test_a_case_is_made_of_its_seed_and_number_alone() -> None:
    one, other = DecoderFuzzer(), DecoderFuzzer()
    try:
        for number in range(200):
            assert one.data(number, source_of(5, number)) == other.data(number, source_of(5, number))
    finally:
        one.close()
        other.close()
