"""Whether an instance's private bucket has room for more keys: what the store has, with what is buffered worked in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from perdure.durable.effects import fits
from perdure.durable.overlay import Overlay, Place

_READ = 100


async def room_for(
    keys: Sequence[str],
    bound: int,
    overlay: Overlay,
    place: Place,
    count: Callable[[], Awaitable[int]],
    read: Callable[[Sequence[str]], Awaitable[list[bytes | None]]],
) -> bool:
    """Whether the bucket at `place` has at most `bound` keys when `keys` are set as well, or has them all already.

    `count`, `read`: of the store. Far from the bound the store is asked once for each commit: what was buffered since
    is taken for new.
    """
    written = overlay.written(place)
    most = {key for key, value in written.items() if value is not None}.union(keys)
    held = overlay.counted.get(place)
    if held is None:
        held = overlay.counted[place] = await count()
    if held + len(most) <= bound:
        return True
    held = overlay.counted[place] = await count()
    touched = list(dict.fromkeys((*written, *keys)))
    present: set[str] = set()
    for start in range(0, len(touched), _READ):
        some = touched[start : start + _READ]
        present |= {key for key, value in zip(some, await read(some), strict=True) if value is not None}
    return fits(keys, bound, held, present, written.items())
