"""Fault injection on real host processes: what they do against a sequential model. See docs/faults.md."""
