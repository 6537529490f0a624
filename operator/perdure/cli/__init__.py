"""The `perdure` command: one module a sub-command."""
