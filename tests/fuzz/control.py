"""A fuzzer that does what no case should, at known numbers: the harness's own test."""

from __future__ import annotations

import ctypes
import sys
import time

from fuzz.command import main
from fuzz.harness import Fuzzer
from support.generated.source import Seeded


class ControlFuzzer(Fuzzer):
    """Crashes at 3, hangs at 5, raises at 7, grows at 9 and works for too long at 11."""

    name = "control"
    accepted = ("fine",)
    slow = 0.5
    hang = 10.0
    swell_mb = 100.0

    def data(self, number: int, source: Seeded) -> bytes:
        return b"case %d" % number

    def run(self, number: int, source: Seeded) -> tuple[str, ...]:
        if number == 3:
            ctypes.string_at(0)
        if number == 5:
            time.sleep(600)
        if number == 7:
            raise KeyError("seven")
        if number == 9:
            len(b"x" * (200 << 20))
        if number == 11:
            began = time.process_time()
            while time.process_time() - began < 0.6:
                pass
        return ("fine",)


if __name__ == "__main__":
    sys.exit(main(ControlFuzzer, "fuzz.control", (__doc__ or "").partition("\n")[0]))
