"""The host's HTTP API: routes, error documents, request parsing."""
