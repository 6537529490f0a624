"""The pod's process: HTTP API, instance table, routing between hosts, metrics. `app` is the composition root."""
