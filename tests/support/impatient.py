"""`python -m support.impatient`: `perdure`, where a sleep of half a second is long enough to give up memory for."""

import sys

from perdure.cli.main import main
from perdure.wasi import polling

polling.LEAVES_NS = 500_000_000
sys.exit(main())
