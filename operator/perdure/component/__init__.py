"""WebAssembly components over wasmtime's core API: decode, link, canonical ABI, fibers. Knows nothing of Perdure.

The way of a component: `decode` (bytes → definitions) → `link` (definitions → flat plan) → `component` (compile,
bind imports) → `instance` (instantiate, call).
"""
