"""Environment, wasi:config and wasi:logging: values of the manifest, and lines for the host's log.

The latter two are drafts under many versions, whose signatures agree: `wasi:config/store`, formerly `runtime`. What a
guest is given is recorded, so that another value in the manifest does not change the past. Lines are not logged again
on replay.
"""

from __future__ import annotations

from perdure.component.types import Ok
from perdure.wasi.state import WasiContext

_ENVIRONMENT = "cli.environment"


def get_environment(ctx: WasiContext) -> list[tuple[str, str]]:
    """Recorded, though it may be empty. A journal from before it was holds no such call: it gives what there is now."""
    state = ctx.wasi
    if state.recorder.replaying and not state.recorder.expects(_ENVIRONMENT):
        return list(state.environment)
    found = state.recorder.record(_ENVIRONMENT, (), lambda: [[name, value] for name, value in state.environment])
    assert isinstance(found, list)
    return [(str(pair[0]), str(pair[1])) for pair in found if isinstance(pair, list)]


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
