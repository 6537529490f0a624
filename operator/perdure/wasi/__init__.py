"""WASI 0.2 host interfaces for guests whose calls are replayed: what is not deterministic goes through a `Recorder`."""
