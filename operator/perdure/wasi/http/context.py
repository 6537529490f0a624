"""What host functions of wasi:http get as their first argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from perdure.wasi.state import WasiState

if TYPE_CHECKING:
    from perdure.wasi.http.exchanges import Exchanges


class HttpContext(Protocol):
    """The calling instance."""

    @property
    def wasi(self) -> WasiState:
        """Its WASI state."""

    @property
    def http(self) -> Exchanges:
        """Its requests."""
