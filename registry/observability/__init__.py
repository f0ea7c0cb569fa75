"""Observability: the logs and metrics of a running registry."""
