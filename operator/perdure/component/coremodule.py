"""As much of the core module format as linking needs: the imports, in order (core specification, "Binary Format")."""

from __future__ import annotations

from perdure.component.decode.reader import Reader
from perdure.component.decode.typedefs import skip_core_extern

_IMPORT_SECTION = 2


def module_imports(data: bytes) -> tuple[tuple[str, str, str], ...]:
    """(module, name, kind) of each import. Raises `ComponentError` on malformed bytes."""
    r = Reader(data, 8)
    while r.left:
        section = r.byte()
        body = r.sub(r.u32())
        if section == _IMPORT_SECTION:
            return body.vector(lambda s: (s.name(), s.name(), skip_core_extern(s)))
    return ()
