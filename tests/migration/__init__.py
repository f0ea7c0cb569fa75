"""Buckets that other registries filled, and what is told of them."""
