"""What the benchmarks share: interleaved rounds, tables, the machine's description. No benchmark knows another.

Importing it makes `support` of the tests importable too: the benchmarks run the same real servers and hosts.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
