"""wasi:keyvalue in four generations over one Bucket protocol. The component's own import types decide which."""
