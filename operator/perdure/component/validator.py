"""wasmtime's validator, which accepts a component before the decoder reads it; nothing of it is run or instantiated.

wasmtime validates a component only on the way to compiled code, and there it unfolds every instantiation first: a
binary of 600 bytes whose components instantiate one another twice makes it run out of memory and end the process. So
the validator is shown the component within an empty one that never instantiates it: it is validated in full, and
nothing unfolds. Unfolding is the linker's, which counts (`link.MAX_INSTANCES`). See docs/adr/0006.
"""

from __future__ import annotations

import re

import wasmtime
from wasmtime.component import Component as StockComponent

from perdure.component.coremodule import encoded_section
from perdure.component.decode import decode_component
from perdure.component.decode.sections import FORWARDING
from perdure.component.engine import allow_compact_imports
from perdure.component.skeleton import skeleton
from perdure.errors import ComponentError, ComponentUnsupported

_COMPONENT = 4
_HEADER = b"\0asm\x0d\0\x01\0"
_SWITCHED_OFF = (
    re.compile(r"component model `?([\w -]+?)`?(?: feature|s is not enabled)"),
    re.compile(r"`([\w-]+)` feature"),
    re.compile(r"the ([\w -]+?) proposal"),
    re.compile(r"([\w -]+?) (?:support is not|must be) enabled"),
    re.compile(r"when ([\w -]+?) is disabled"),
)
"""How the validator names what is not switched on."""
_NAMES = {
    "64-bit": "64-bit memories",
    "async stackful": "async functions",
    "cm-gc": "GC types",
    "cm-implements": "implements",
    "cm64": "64-bit memories",
    "forward": FORWARDING,
    "map": "map<K, V>",
    "more async builtins": "async functions",
    "shared-everything-threads": "threads",
    "threading": "threads",
    "value": "values",
}
"""The validator's name → the one that `ComponentUnsupported.feature` has, where it is another."""
_UNREAD = re.compile(r"invalid leading byte|nesting is too deep")
"""What it says of an encoding it does not read: of an older or newer proposal, or beyond what it takes."""
_LIMIT = re.compile(r"exceeds? (?:the )?(?:limit|maximum)|nesting is too deep|size (?:is )?out of bounds")
"""What it says of a component that may be valid and is larger than it takes."""
_OFFSET = re.compile(r" \(at offset 0x[0-9a-f]+\)$")


def validate(data: bytes) -> None:
    """Raises `ComponentError` (not a valid component) or `ComponentUnsupported` (of a feature that is switched off).

    What the validator cannot read is shown to the decoder after all, which may know what it is called.
    The bodies of functions are validated where the core modules are compiled.
    """
    settings = wasmtime.Config()
    settings.cranelift_opt_level = "none"
    allow_compact_imports(settings)
    try:
        StockComponent(wasmtime.Engine(settings), _HEADER + encoded_section(_COMPONENT, skeleton(data)))
    except wasmtime.WasmtimeError as error:
        # Its offset is one of the skeleton, which nobody has.
        reason = _OFFSET.sub("", last_cause(error))
        if _UNREAD.search(reason):
            decode_component(data)  # raises `ComponentUnsupported` where it knows the name
        raise refusal(reason) from error


def refusal(reason: str) -> ComponentError:
    """The error for what wasmtime has said of a component or of one of its core modules."""
    for said in _SWITCHED_OFF:
        if found := said.search(reason):
            feature = _NAMES.get(found[1].strip(), found[1].strip())
            return ComponentUnsupported(f"the component uses {feature}: {reason}", feature=feature)
    if _LIMIT.search(reason):
        words = f"the component has more than wasmtime takes: {reason}"
        return ComponentUnsupported(words, feature="wasmtime's limits")
    return ComponentError(f"not a valid component: {reason}")


def last_cause(error: wasmtime.WasmtimeError) -> str:
    """The innermost of the causes that wasmtime lists, without its number."""
    lines = str(error).strip().splitlines() or ["unknown reason"]
    return re.sub(r"^\d+: ", "", lines[-1].strip())
