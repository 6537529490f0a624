"""wasi:config and wasi:logging: values of the manifest, and lines for the host's log.

Both are drafts under many versions, whose signatures agree: `wasi:config/store`, formerly `runtime`. A value is
recorded, so that another one in the manifest does not change the past; it is in the journal, where secrets have no
place. Lines are not logged again on replay.
"""

from __future__ import annotations

from perdure.component.types import Ok
from perdure.wasi.state import WasiContext


def get(ctx: WasiContext, key: str) -> Ok:
    state = ctx.wasi
    return Ok(state.recorder.record("config.get", (key,), lambda: state.settings.get(key)))


def get_all(ctx: WasiContext) -> Ok:
    state = ctx.wasi
    found = state.recorder.record("config.get-all", (), lambda: [[k, v] for k, v in sorted(state.settings.items())])
    assert isinstance(found, list)
    return Ok([tuple(pair) for pair in found if isinstance(pair, list)])


def log(ctx: WasiContext, level: str, context: str, message: str) -> None:
    if not ctx.wasi.recorder.replaying:
        ctx.wasi.log(level, context, message)
