"""A seeded slice of each fuzzer; `make fuzz` runs more of them. The harness is tested with a fuzzer that misbehaves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fuzz.control import ControlFuzzer
from fuzz.decoder import DecoderFuzzer
from fuzz.differential import DifferentialFuzzer
from fuzz.harness import Fuzzer, source_of, supervise
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
def test_a_slice_of_the_fuzzer_finds_nothing(make: Callable[[], Fuzzer], cases: int, wanted: set[str]) -> None:
    run = supervise(make, make.__module__, seed=2026, cases=cases)
    assert not run.findings, run.report()
    assert run.figures.cases == cases
    assert wanted <= set(run.figures.outcomes), "the cases reach no further than they used to"


@pytest.mark.timeout(600)
def test_the_harness_sees_crashes_hangs_and_swelling() -> None:
    run = supervise(ControlFuzzer, ControlFuzzer.__module__, seed=1, cases=13)
    found = {finding.case: finding.what for finding in run.findings}
    assert set(found) == {3, 5, 7, 9, 11}, run.report()
    assert "SIGSEGV" in found[3] and "hang" in found[5] and "KeyError" in found[7]
    assert "grew" in found[9] and "slow" in found[11]
    assert {finding.case: finding.data for finding in run.findings}[3] == b"case 3"
    assert run.figures.cases == 13


def test_a_case_is_made_of_its_seed_and_number_alone() -> None:
    one, other = DecoderFuzzer(), DecoderFuzzer()
    try:
        for number in range(200):
            assert one.data(number, source_of(5, number)) == other.data(number, source_of(5, number))
    finally:
        one.close()
        other.close()
