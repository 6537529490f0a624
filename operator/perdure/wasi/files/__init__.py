"""wasi:filesystem 0.2 over directories that the manifest declares, for reading only."""
