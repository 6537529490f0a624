"""wasi:http 0.2: `types`, `outgoing-handler`, and what an exported `incoming-handler` is called with."""
