"""The extension module `native/`; `boundary.py` gives what it has under the types of `reference.py`."""

from perdure.component.reference import State as State

STRUCTS: dict[str, int]
UNFINISHED: object
BEGIN: int
NEXT: int
WAIT: int

def setup(functions: tuple[int, ...], helpers: tuple[object, ...]) -> None: ...
