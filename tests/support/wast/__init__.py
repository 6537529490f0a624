"""Running WebAssembly scripts (`.wast`) on the component runtime; `tests/component/wast.py` is the command."""
