"""A one-node Kubernetes cluster on a plain machine, for the end-to-end tests (see `scripts/e2e`)."""
