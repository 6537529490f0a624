"""Fetching components: OCI registries, URLs and files. Shared by host and reconciler; knows neither."""
