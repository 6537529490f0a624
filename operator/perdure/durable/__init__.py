"""Durable execution over a Store: journal, replay, commit, idempotency, ownership. No HTTP, no Kubernetes.

The way of an invocation: `instance` (claim, replay, run, commit) with `recorder` between guest and world, `buckets`
over the write `overlay`, `journal` for the entry's bytes, and `foreign` for buckets that live in another store.
"""
