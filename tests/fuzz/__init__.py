"""Fuzzers of the component runtime, as commands: `make fuzz`, or `python -m fuzz.decoder --help` (docs/fuzzing.md).

Every case is made from (seed, number) alone, so that a finding can be made again.
"""
