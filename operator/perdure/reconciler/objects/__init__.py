"""Pure builders: a Worker with its providers in, one Kubernetes object out. Nothing here talks to a cluster."""
