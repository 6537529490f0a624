"""Perdure: durable key-value workers on Kubernetes."""

__version__ = "0.1.0"
